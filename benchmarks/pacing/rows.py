"""The rows of the table: each a hidden limit, how it is counted, what is asked for, and what ours is to reach there."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from benchmarks.pacing.limits import AnyNumber, AtOnce, Bucket, ClockSeconds, Schedule, SlidingSecond, Way

__all__ = ["EXTRA", "LATENCY", "ROWS", "SLOTS", "Row", "Target", "find"]

SLOTS = 64
"""Requests that every client may have under way."""

LATENCY = 0.4
"""Seconds of work on a request that was taken, on the average."""

_OURS = ("ours",)
_WITH_PEERS = ("ours", "openai-python, 2 retries", "openai-python, 10 retries")
_QUICKER = 5
_STEADY = Schedule.steady(40)


@attrs.frozen
class Target:
    """What ours is to reach, besides no job failed.

    Attributes:
        wasted: Largest part of the requests that may end in 429.
        share: Least of ideal time ÷ time.
        uneven: Largest lag of one batch behind the other, as a part, or None where there is but one.
    """

    wasted: float
    share: float
    uneven: float | None = None


@attrs.frozen(kw_only=True)
class Row:
    """A hidden limit and what is asked for under it.

    Attributes:
        name: On the command line.
        title: In the table.
        way: Makes the counter.
        limit: What it counts to.
        span: Seconds for which a job takes up one of it.
        contenders: Names of the contenders that run.
        target: What ours is to reach.
        jobs: In all, of one image each.
        batches: Clients that share the jobs, in one process, with one key.
        retry_after: Seconds that a 429 names, or None.
        at_random: Part of the requests that is refused whatever the limit.
    """

    name: str
    title: str
    way: Callable[[Schedule], Way] = SlidingSecond
    limit: Schedule = _STEADY
    span: float = 1.0
    contenders: tuple[str, ...] = _OURS
    target: Target | None = None
    jobs: int = 800
    batches: int = 1
    retry_after: int | None = None
    at_random: float = 0.0

    def ideal(self, jobs: int) -> float:
        """Return the seconds that `jobs` take at best, see `Schedule.ideal`."""
        return self.limit.ideal(jobs, span=self.span)

    def quick(self) -> Row:
        """Make the same row with a fifth of the jobs, changes sooner, no target: the last job weighs more."""
        return attrs.evolve(self, jobs=self.jobs // _QUICKER, limit=self.limit.quicker(_QUICKER), target=None)


ROWS = (
    Row(
        name="rate",
        title="40 requests/s, no Retry-After",
        contenders=_WITH_PEERS,
        target=Target(wasted=0.05, share=0.92),
    ),
    Row(
        name="retry-after",
        title="40 requests/s, Retry-After: 1",
        contenders=_WITH_PEERS,
        target=Target(wasted=0.05, share=0.90),
        retry_after=1,
    ),
    Row(
        name="at-once",
        title="16 at once, no Retry-After",
        way=AtOnce,
        limit=Schedule.steady(16),
        span=LATENCY,
        contenders=_WITH_PEERS,
        target=Target(wasted=0.05, share=0.92),
    ),
    Row(
        name="changing",
        title="40/s, from 6 s on 20/s, from 14 s on 40/s",
        limit=Schedule(((0, 40), (6, 20), (14, 40))),
        target=Target(wasted=0.08, share=0.85),
    ),
    Row(
        name="two-batches",
        title="40 requests/s, two batches in one process",
        contenders=("ours", "ours, journalled"),
        target=Target(wasted=0.05, share=0.90, uneven=0.10),
        batches=2,
    ),
)

EXTRA = (
    Row(name="bucket", title="40 requests/s, token bucket of 40", way=Bucket),
    Row(name="clock-seconds", title="40 requests in each clock second", way=ClockSeconds),
    Row(name="at-random", title="40 requests/s, and 429 for 10 % at random", at_random=0.1),
    Row(name="free", title="no limit but 64 slots", way=AnyNumber, limit=Schedule.steady(SLOTS), span=LATENCY),
)
"""Further ways of counting, without a target."""


def find(name: str, *, quick: bool = False) -> Row:
    """Return the row of that name.

    Raises:
        LookupError: There is none.
    """
    for row in ROWS + EXTRA:
        if row.name == name:
            return row.quick() if quick else row
    raise LookupError(name)
