"""A gateway with a hidden limit and a client that keeps to a `Pace`, without sockets and in no time at all.

Events are played in the order of time; the seed decides jitter and lateness. It tells what a run would have taken.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections import deque
from collections.abc import Callable
from typing import Protocol

import attrs

from imagen_async.pacing.pace import Pace, Ticket, Verdict

__all__ = ["AtOnce", "Bucket", "Ended", "Gateway", "PerSpan", "play"]

Limit = Callable[[float], float]
"""A limit at an instant."""

_ROUND_TRIP = 0.002
_LATE = 0.0015
"""Seconds by which a timer may come late."""


class Gateway(Protocol):
    """Decides whether a request is taken."""

    def takes(self, now: float, *, busy: int) -> bool:
        """Say whether a request that arrives `now` is worked on, while `busy` others are."""


@attrs.define
class PerSpan:
    """Takes so many in any span of so many seconds."""

    limit: Limit
    seconds: float = 1.0
    taken: deque[float] = attrs.field(factory=deque)

    def takes(self, now: float, *, busy: int) -> bool:
        del busy
        while self.taken and self.taken[0] <= now - self.seconds:
            self.taken.popleft()
        if len(self.taken) >= self.limit(now):
            return False
        self.taken.append(now)
        return True


@attrs.define
class Bucket:
    """Takes so many a second on the average, and so many at once."""

    limit: Limit
    size: float
    level: float = attrs.field(init=False)
    at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.level = self.size

    def takes(self, now: float, *, busy: int) -> bool:
        del busy
        self.level, self.at = min(self.size, self.level + (now - self.at) * self.limit(now)), now
        if self.level < 1.0:
            return False
        self.level -= 1.0
        return True


@attrs.define
class AtOnce:
    """Takes a request while fewer than so many are worked on."""

    limit: Limit

    def takes(self, now: float, *, busy: int) -> bool:
        return busy < self.limit(now)


@attrs.frozen
class Ended:
    """What a run came to.

    Attributes:
        seconds: Its length.
        refused: Requests that were turned away.
        early: Requests that left before they might.
        most: Most requests that the gateway worked on at once.
    """

    seconds: float
    refused: int
    early: int
    most: int


def play(
    pace: Pace,
    gateway: Gateway,
    *,
    jobs: int,
    latency: float = 0.4,
    jitter: float = 0.0,
    retry_after: float | None = None,
    seed: int = 0,
    longest: float = 3600.0,
) -> Ended:
    """Play a run to its end, or to `longest` seconds."""
    draw, order = random.Random(seed).random, itertools.count()
    events: list[tuple[float, int, str, Ticket]] = []
    now, left, done, busy, refused, early, most, earliest = 0.0, jobs, 0, 0, 0, 0, 0, -math.inf

    def later(seconds: float, kind: str, ticket: Ticket) -> None:
        heapq.heappush(events, (now + seconds, next(order), kind, ticket))

    while done < jobs and now < longest:
        wait = pace.wait(now=now) if left else math.inf
        if not wait:
            early += now < earliest - 1e-9
            left -= 1
            later(_ROUND_TRIP / 2, "arrives", pace.sent(now=now))
        elif not events or now + wait < events[0][0]:
            assert wait < math.inf, "nothing is under way and nothing may leave"
            now += wait + draw() * _LATE
        else:
            now, _, kind, ticket = heapq.heappop(events)
            if kind == "arrives" and gateway.takes(now, busy=busy):
                busy += 1
                most = max(most, busy)
                later(latency * (1.0 + jitter * (2.0 * draw() - 1.0)), "is done", ticket)
            elif kind == "arrives":
                refused += 1
                later(_ROUND_TRIP / 2, "is refused", ticket)
            elif kind == "is done":
                busy -= 1
                later(_ROUND_TRIP / 2, "is answered", ticket)
            elif kind == "is answered":
                done += 1
                pace.ended(ticket, Verdict.ACCEPTED, now=now)
            else:
                left += 1
                if retry_after is not None:
                    earliest = max(earliest, now + retry_after)
                pace.ended(ticket, Verdict.REFUSED, now=now, retry_after=retry_after)
    return Ended(now, refused, early, most)
