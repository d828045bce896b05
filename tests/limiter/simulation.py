"""Simulates a gateway with a hidden limit and a client with a `Controller`, without sockets and without waiting.

Events are played in the order of time; the seed decides jitter and lateness.
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

from imagen_async.limiter.controller import Controller, Permit, Verdict

__all__ = ["AtOnce", "AtRandom", "Bucket", "Crowded", "Ended", "Gateway", "Outage", "PerClockSpan", "PerSpan", "play"]

Limit = Callable[[float], float]
"""A limit at an instant."""

_ROUND_TRIP = 0.002
_STRAY = 0.004
"""Seconds by which one request or response may take longer than another, so that they overtake each other."""

_LATE, _VERY_LATE, _OFTEN = 0.0015, 0.010, 0.05
"""Seconds by which a timer may be late, usually and sometimes, and how often that is."""


class Gateway(Protocol):
    """Decides the result of a request."""

    def verdict(self, now: float, *, busy: int) -> Verdict:
        """Return the result of a request that arrives `now`, while `busy` others are in progress."""


def _if(*, taken: bool) -> Verdict:
    return Verdict.ACCEPTED if taken else Verdict.REFUSED


@attrs.define
class PerSpan:
    """Accepts up to a limit in any span of so many seconds."""

    limit: Limit
    seconds: float = 1.0
    taken: deque[float] = attrs.field(factory=deque)

    def verdict(self, now: float, *, busy: int) -> Verdict:
        del busy
        while self.taken and self.taken[0] <= now - self.seconds:
            self.taken.popleft()
        if len(self.taken) >= self.limit(now):
            return Verdict.REFUSED
        self.taken.append(now)
        return Verdict.ACCEPTED


@attrs.define
class PerClockSpan:
    """Accepts up to a limit in each period of the clock."""

    limit: Limit
    seconds: float = 1.0
    stroke: int = -1
    taken: int = 0

    def verdict(self, now: float, *, busy: int) -> Verdict:
        del busy
        if (stroke := int(now / self.seconds)) > self.stroke:
            self.stroke, self.taken = stroke, 0
        self.taken += 1
        return _if(taken=self.taken <= self.limit(now))


@attrs.define
class Bucket:
    """A token bucket: accepts up to a limit a second on average, and bursts up to its size."""

    limit: Limit
    size: float
    level: float = attrs.field(init=False)
    at: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.level = self.size

    def verdict(self, now: float, *, busy: int) -> Verdict:
        del busy
        self.level, self.at = min(self.size, self.level + (now - self.at) * self.limit(now)), now
        if self.level < 1.0:
            return Verdict.REFUSED
        self.level -= 1.0
        return Verdict.ACCEPTED


@attrs.define
class AtOnce:
    """Accepts a request while fewer than a limit are in progress."""

    limit: Limit

    def verdict(self, now: float, *, busy: int) -> Verdict:
        return _if(taken=busy < self.limit(now))


@attrs.define
class AtRandom:
    """Refuses a part of the requests at random, before another gateway sees them."""

    share: float
    behind: Gateway
    why: Verdict = Verdict.REFUSED
    draw: Callable[[], float] = attrs.field(factory=lambda: random.Random(7).random)

    def verdict(self, now: float, *, busy: int) -> Verdict:
        return self.why if self.draw() < self.share else self.behind.verdict(now, busy=busy)


@attrs.define
class Crowded:
    """Fails on a part of the requests while more than a limit are in progress."""

    limit: Limit
    share: float
    draw: Callable[[], float] = attrs.field(factory=lambda: random.Random(8).random)

    def verdict(self, now: float, *, busy: int) -> Verdict:
        fails = busy >= self.limit(now) and self.draw() < self.share
        return Verdict.OVERLOADED if fails else Verdict.ACCEPTED


@attrs.define
class Outage:
    """Fails from one instant to another."""

    begin: float
    end: float
    behind: Gateway

    def verdict(self, now: float, *, busy: int) -> Verdict:
        return Verdict.OVERLOADED if self.begin <= now < self.end else self.behind.verdict(now, busy=busy)


@attrs.frozen
class Ended:
    """The result of a run.

    Attributes:
        seconds: Its length.
        refused: Requests that were refused.
        failed: Requests that the gateway failed on.
        early: Requests that left during a pause.
        most: Most requests that were in progress at the gateway concurrently.
    """

    seconds: float
    refused: int
    failed: int
    early: int
    most: int


def play(
    controller: Controller,
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
    events: list[tuple[float, int, str, Permit, Verdict]] = []
    now, left, done, busy, refused, failed, early, most, earliest = 0.0, jobs, 0, 0, 0, 0, 0, 0, -math.inf

    def later(seconds: float, kind: str, sent: Permit, verdict: Verdict) -> None:
        heapq.heappush(events, (now + seconds, next(order), kind, sent, verdict))

    def way() -> float:
        return _ROUND_TRIP / 2 + _STRAY * draw()

    while done < jobs and now < longest:
        permit = controller.take(now=now) if left else math.inf
        if isinstance(permit, Permit):
            early += now < earliest - 1e-9
            left -= 1
            later(way(), "arrives", permit, Verdict.NOTHING)
        elif not events or now + permit < events[0][0]:
            assert permit < math.inf, "nothing is in flight and nothing may leave"
            now += permit + draw() * (_VERY_LATE if draw() < _OFTEN else _LATE)
        else:
            now, _, kind, sent, verdict = heapq.heappop(events)
            if kind == "arrives":
                verdict = gateway.verdict(now, busy=busy)
                if verdict is Verdict.REFUSED:
                    later(way(), "is received", sent, verdict)
                else:
                    busy += 1
                    most = max(most, busy)
                    later(latency * (1.0 + jitter * (2.0 * draw() - 1.0)), "is done", sent, verdict)
            elif kind == "is done":
                busy -= 1
                later(way(), "is received", sent, verdict)
            else:
                done += verdict is Verdict.ACCEPTED
                left += verdict is not Verdict.ACCEPTED
                refused += verdict is Verdict.REFUSED
                failed += verdict is Verdict.OVERLOADED
                asked = retry_after if verdict is Verdict.REFUSED else None
                if asked is not None:
                    earliest = max(earliest, now + asked)
                controller.ended(sent, verdict, now=now, retry_after=asked)
    return Ended(now, refused, failed, early, most)
