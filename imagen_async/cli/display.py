"""Progress on stderr: a live display on a terminal, a plain line now and then elsewhere.

A display only reads the batch's counters. The live one draws in rich's own thread and the plain one writes in a
thread, too, so that a terminal or a pipe that stalls holds up no event loop.
"""

from __future__ import annotations

import asyncio
import math
import sys
import time
from typing import TYPE_CHECKING, Literal, Protocol, Self

from imagen_async.cli.formatting import Throughput, duration, remaining, size, usd
from imagen_async.cli.speech import say
from imagen_async.exceptions import printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from rich.console import Console, RenderableType
    from rich.text import Text

    from imagen_async.batch import Progress
    from imagen_async.limiter.limiter import PaceState

__all__ = ["Display", "LiveDisplay", "PlainDisplay", "Silence", "plain_line", "progress_display"]

_FRAMES_PER_S = 4
_LONGEST_NOTE = 300
_ECHO = 4
"""Columns for what the terminal echoes: two keystrokes of Ctrl-C."""


class Display(Protocol):
    """Shows how a run goes, as long as its ``async with`` lasts."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, text: str) -> None:
        """Tell what the run is up to."""

    def trouble(self, text: str) -> None:
        """Tell of a job that did not succeed."""

    def abandon(self) -> None:
        """Leave the terminal usable: the process ends now."""


def progress_display(
    mode: Literal["auto", "live", "plain", "off"],
    counters: Progress,
    pace: Callable[[], PaceState],
    *,
    every: float,
    clock: Callable[[], float],
) -> Display:
    """Choose a display; ``auto`` is live on a terminal and plain elsewhere."""
    if mode == "off":
        return Silence()
    if mode == "live" or (mode == "auto" and sys.stderr.isatty()):
        from rich.console import Console

        return LiveDisplay(counters, pace, Console(stderr=True, force_terminal=mode == "live" or None), clock=clock)
    return PlainDisplay(counters, pace, every=every, clock=clock)


class _Figures:
    """The counters with what can be worked out from them."""

    def __init__(self, counters: Progress, pace: Callable[[], PaceState], clock: Callable[[], float]) -> None:
        self.counters = counters
        self._pace = pace
        self._clock = clock
        self._began = clock()
        self._speed = Throughput()
        self._speed.note(self._began, images=counters.images, size=counters.bytes)

    def jobs(self) -> str:
        done, total = self.counters.done, self.counters.total
        return f"{done:,} done" if total is None else f"{done:,}/{total:,} done"

    def losses(self) -> list[tuple[str, int]]:
        counters = self.counters
        named = (
            ("failed", counters.failed),
            ("filtered", counters.filtered),
            ("partial", counters.partial),
            ("in doubt", counters.in_doubt),
        )
        return [(name, number) for name, number in named if number or name == "failed"]

    def pace(self) -> list[str]:
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
        why = self.counters.stopping
        return [] if why is None else [f"stopping, as soon as what is in flight has ended: {why}"]

    def _limits(self, pace: PaceState) -> list[str]:
        parts = [f"{self.counters.in_flight:,} of {pace.limit:,} in flight"]
        if pace.rate < math.inf:
            parts.append(f"at most {pace.rate:.3g} requests/s")
        if pace.waiting:
            parts.append("the gateway does not answer, trying it now and then")
        elif pace.paused_s:
            parts.append(f"paused by the gateway for {duration(math.ceil(pace.paused_s))}")
        return parts

    def _cost(self) -> str:
        counters = self.counters
        doubtful = f" + {usd(counters.doubtful_usd)} in doubt" if counters.doubtful_usd else ""
        return f"{usd(counters.cost_usd)}{doubtful}"

    def _left(self, now: float) -> str:
        counters = self.counters
        total = None if counters.total is None else counters.total - counters.skipped
        left = remaining(ended=counters.done - counters.skipped, total=total, elapsed=now - self._began)
        return "?" if left is None else duration(left)


def plain_line(figures: _Figures) -> str:
    """Return where a run stands, in one line."""
    losses = [f"{number:,} {name}" for name, number in figures.losses()]
    return ", ".join([figures.jobs(), *losses, *figures.pace(), *figures.stopping()])


class Silence:
    """Shows nothing but notes."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def note(self, text: str) -> None:
        """Print the note."""
        say(text)

    def trouble(self, text: str) -> None:
        """Show nothing."""

    def abandon(self) -> None:
        """Do nothing."""


class PlainDisplay(Silence):
    """Prints a line now and then, and one at the end.

    Args:
        counters: What it reads.
        pace: Gives how fast may be sent.
        every: Seconds between lines.
        clock: Gives monotonic seconds.
        sleep: Waits for some seconds.
        write: Prints a line.
    """

    def __init__(
        self,
        counters: Progress,
        pace: Callable[[], PaceState],
        *,
        every: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        write: Callable[[str], None] = say,
    ) -> None:
        self._figures = _Figures(counters, pace, clock)
        self._every = every
        self._sleep = sleep
        self._write = write
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._print(), name="imagen-progress")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._write(plain_line(self._figures))

    def note(self, text: str) -> None:
        """Print the note."""
        self._write(text)

    async def _print(self) -> None:
        while True:
            await self._sleep(self._every)
            await asyncio.to_thread(self._write, plain_line(self._figures))


class LiveDisplay:
    """Draws a bar with the figures below it, a few times a second, and takes it away at the end.

    Args:
        counters: What it reads.
        pace: Gives how fast may be sent.
        console: Where it draws.
        clock: Gives monotonic seconds.
    """

    def __init__(
        self,
        counters: Progress,
        pace: Callable[[], PaceState],
        console: Console,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        from rich.live import Live

        self._figures = _Figures(counters, pace, clock)
        self._console = console
        self._notes: dict[str, str] = {}
        self._live = Live(
            console=console,
            get_renderable=self.drawn,
            refresh_per_second=_FRAMES_PER_S,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )

    async def __aenter__(self) -> Self:
        self._live.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def note(self, text: str) -> None:
        """Show the note below the figures, until there is another."""
        self._notes["note"] = text

    def trouble(self, text: str) -> None:
        """Show the trouble below the figures, until there is another."""
        self._notes["trouble"] = text

    def abandon(self) -> None:
        """Bring the cursor back."""
        # Not through rich: its thread may hold the lock.
        say("\x1b[?25h")

    def _said(self) -> list[tuple[str, str]]:
        said = sorted(self._notes.items(), reverse=True)
        return [*(("note", why) for why in self._figures.stopping()), *said]

    def drawn(self) -> RenderableType:
        """Return what is to be seen now."""
        from rich.console import Group
        from rich.constrain import Constrain
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        figures = self._figures
        first = Table.grid(padding=(0, 1))
        total = figures.counters.total
        if total:
            first.add_row(ProgressBar(total, figures.counters.done, width=40), _percent(figures), Text(figures.jobs()))
        else:
            first.add_row(ProgressBar(None, pulse=True, width=40), Text(figures.jobs()))
        losses = Text("  ").join(
            Text(f"{number:,} {name}", style="red" if number else "dim") for name, number in figures.losses()
        )
        pace = Text("  ".join(figures.pace()))
        notes = [_note(text, "yellow" if kind == "note" else "dim") for kind, text in self._said()]
        # The terminal itself writes ^C behind the last line; if that wraps, rich erases one line too few.
        return Constrain(Group(first, losses, pace, *notes), self._console.width - _ECHO)


def _note(text: str, style: str) -> Text:
    from rich.text import Text

    return Text(printable(text, _LONGEST_NOTE), style=style, overflow="ellipsis", no_wrap=True)


def _percent(figures: _Figures) -> RenderableType:
    from rich.text import Text

    return Text(f"{figures.counters.done / (figures.counters.total or 1):4.0%}")
