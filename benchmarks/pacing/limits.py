"""A hidden limit, and the ways in which gateways count: is one more request taken? What could a run have taken at best?

Arithmetic on instants that the caller gives, in seconds from the first request; nothing here knows a clock, a socket or
a contender.
"""

from __future__ import annotations

import math
from collections import deque
from typing import Protocol

import attrs

__all__ = ["AnyNumber", "AtOnce", "Bucket", "ClockSeconds", "Schedule", "SlidingSecond", "Way"]


@attrs.frozen
class Schedule:
    """A limit that may change.

    Attributes:
        steps: Instants and the limit from each on, ascending, the first at 0.

    Example:
        >>> halved = Schedule(((0.0, 40.0), (6.0, 20.0)))
        >>> halved.at(5.9), halved.at(6.0)
        (40.0, 20.0)
    """

    steps: tuple[tuple[float, float], ...]

    @classmethod
    def steady(cls, limit: float) -> Schedule:
        """Make a limit that never changes."""
        return cls(((0.0, limit),))

    def at(self, now: float) -> float:
        """Return the limit at an instant."""
        return [limit for since, limit in self.steps if since <= now][-1]

    def quicker(self, times: float) -> Schedule:
        """Make the same limit, its changes so many times sooner."""
        return Schedule(tuple((since / times, limit) for since, limit in self.steps))

    def ideal(self, jobs: int, *, span: float) -> float:
        """Return the seconds that `jobs` take if the limit is used up at every instant, and no more.

        Args:
            jobs: How many are done.
            span: Seconds for which a job takes up one of the limit: its latency if the limit is on what is under way,
                1 if it is on what begins in a second.

        Example:
            >>> Schedule(((0.0, 40.0), (6.0, 20.0), (14.0, 40.0))).ideal(800, span=1.0)
            24.0
            >>> Schedule.steady(16.0).ideal(800, span=0.4)
            20.0
        """
        left = float(jobs)
        ends = [since for since, _ in self.steps[1:]] + [math.inf]
        for (since, limit), end in zip(self.steps, ends, strict=True):
            if left * span <= (end - since) * limit:
                return since + left * span / limit
            left -= (end - since) * limit / span
        raise AssertionError("the last step has no end")


class Way(Protocol):
    """A way of counting."""

    def takes(self, now: float, *, busy: int) -> bool:
        """Return whether a request at `now` is accepted while `busy` others are in progress, and count it."""


@attrs.define
class SlidingSecond:
    """Takes so many in any span of one second."""

    limit: Schedule
    taken: deque[float] = attrs.field(factory=deque)

    def takes(self, now: float, *, busy: int) -> bool:
        """See `Way`."""
        del busy
        while self.taken and self.taken[0] <= now - 1.0:
            self.taken.popleft()
        if len(self.taken) >= self.limit.at(now):
            return False
        self.taken.append(now)
        return True


@attrs.define
class ClockSeconds:
    """Takes so many in each second of a clock, which is in the middle of one when the first request comes."""

    limit: Schedule
    second: int = 0
    taken: int = 0

    def takes(self, now: float, *, busy: int) -> bool:
        """See `Way`."""
        del busy
        if (second := math.floor(now + 0.5)) != self.second:
            self.second, self.taken = second, 0
        if self.taken >= self.limit.at(now):
            return False
        self.taken += 1
        return True


@attrs.define
class Bucket:
    """Accepts a number a second on average; up to a second's unused share may be used immediately."""

    limit: Schedule
    used: float = 0.0
    at: float = 0.0

    def takes(self, now: float, *, busy: int) -> bool:
        """See `Way`."""
        del busy
        limit = self.limit.at(now)
        self.used, self.at = max(0.0, self.used - (now - self.at) * limit), now
        if self.used > limit - 1.0:
            return False
        self.used += 1.0
        return True


@attrs.define
class AtOnce:
    """Takes a request while fewer than so many are worked on."""

    limit: Schedule

    def takes(self, now: float, *, busy: int) -> bool:
        """See `Way`."""
        return busy < self.limit.at(now)


@attrs.define
class AnyNumber:
    """Takes every request; `limit` is what the client brings."""

    limit: Schedule

    def takes(self, now: float, *, busy: int) -> bool:
        """See `Way`."""
        del now, busy
        return True
