"""Puts a run's counters into words: states, speed, limits, cost and time left."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from imagen_async.cli.formatting import Throughput, duration, remaining, size, usd

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagen_async.batch import Progress
    from imagen_async.limiter.limiter import PaceState

__all__ = ["Figures"]


class Figures:
    """The counters of a run, and what follows from them.

    Args:
        counters: The batch's counters.
        pace: Returns the client's current limits.
        clock: Returns monotonic seconds.
    """

    def __init__(self, counters: Progress, pace: Callable[[], PaceState], clock: Callable[[], float]) -> None:
        self.counters = counters
        self._pace = pace
        self._clock = clock
        self._began = clock()
        self._speed = Throughput()
        self._speed.note(self._began, images=counters.images, size=counters.bytes)

    def line(self) -> str:
        """Return the state of the run in one line."""
        losses = [f"{number:,} {name}" for name, number in self.losses()]
        return ", ".join([self.jobs(), *losses, *self.rates(), *self.stopping()])

    def jobs(self) -> str:
        """Return how many jobs are done, and of how many."""
        done, total = self.counters.done, self.counters.total
        return f"{done:,} done" if total is None else f"{done:,}/{total:,} done"

    def losses(self) -> list[tuple[str, int]]:
        """Return the name and number of each state that is not a success; ``failed`` always, others if not 0."""
        counters = self.counters
        named = (
            ("failed", counters.failed),
            ("filtered", counters.filtered),
            ("partial", counters.partial),
            ("in doubt", counters.in_doubt),
        )
        return [(name, number) for name, number in named if number or name == "failed"]

    def rates(self) -> list[str]:
        """Return speed, retries, limits, cost and time left."""
        counters = self.counters
        now = self._clock()
        self._speed.note(now, images=counters.images, size=counters.bytes)
        noun = "retry" if counters.retries == 1 else "retries"
        parts = [
            f"{self._speed.images_per_s:.1f} images/s",
            f"{size(self._speed.bytes_per_s)}/s",
            f"{counters.retries:,} {noun}",
            *self._limits(self._pace()),
            self._cost(),
        ]
        skipped = [f"{counters.skipped:,} skipped"] if counters.skipped else []
        return [*skipped, *parts, f"ETA {self._left(now)}"]

    def stopping(self) -> list[str]:
        """Return why the run stops, if it does."""
        why = self.counters.stopping
        return [] if why is None else [f"stopping as soon as the requests in flight have ended: {why}"]

    def _limits(self, pace: PaceState) -> list[str]:
        parts = [f"{self.counters.in_flight:,} of {pace.limit:,} in flight"]
        if pace.rate < math.inf:
            parts.append(f"at most {pace.rate:.3g} requests/s")
        if pace.waiting:
            parts.append("the gateway does not respond, probing it at intervals")
        elif pace.paused_s:
            parts.append(f"paused by the gateway for {duration(math.ceil(pace.paused_s))}")
        return parts

    def _cost(self) -> str:
        counters = self.counters
        in_doubt = f" + {usd(counters.doubtful_usd)} in doubt" if counters.doubtful_usd else ""
        return f"{usd(counters.cost_usd)}{in_doubt}"

    def _left(self, now: float) -> str:
        counters = self.counters
        total = None if counters.total is None else counters.total - counters.skipped
        left = remaining(ended=counters.done - counters.skipped, total=total, elapsed=now - self._began)
        return "?" if left is None else duration(left)
