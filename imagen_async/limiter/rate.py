"""How fast requests may leave: at the rate that the gateway had accepted when it refused a request."""

from __future__ import annotations

import math
from array import array

import attrs

from imagen_async.limiter.growth import Growth
from imagen_async.limiter.tuning import Tuning

__all__ = ["MOST_REMEMBERED", "SETTLING", "AcceptedRequests", "LearnedRate"]

SETTLING = 1.0
"""Seconds after a cut in which a refusal says nothing new; also the shortest time in which a rate is measured."""

_SHORT = 4.0
"""Seconds within which a second cut means that the first one was too small."""

_STEP_DOWN = 0.92
"""Part of the rate that such a second cut leaves."""

_LEAST = 0.5
"""Least part of a known rate that one cut leaves."""

_ENOUGH = 20
"""Requests from which a rate can be measured."""

_ALL_KNOWN = 0.2
"""Seconds after a cut in which requests that left before it are still being refused."""

_FEW = 10
"""Requests after a cut that are too few to judge it."""

_TRIAL = 25
"""Requests after which a cut shows whether it has helped; until then nothing grows."""

_MEMORY = 60.0
"""Longest time in seconds over which a rate is measured."""

MOST_REMEMBERED = 16_384
"""Most requests that are remembered."""


def _unknown() -> array[float]:
    return array("d", [-math.inf]) * MOST_REMEMBERED


@attrs.define
class AcceptedRequests:
    """When the requests of the last seconds left that were not refused.

    A request in flight counts as accepted: a refusal takes a moment, an image takes seconds.

    The instants are in a ring, at the numbers of their requests. With an object each, they would live among short-lived
    objects for as long as a batch runs, and keep whole arenas of memory from being returned to the system.

    Args:
        memory: Seconds that are remembered.
    """

    memory: float
    _left: array[float] = attrs.field(factory=_unknown, repr=False)
    _last: int = -1
    _now: float = -math.inf

    def add(self, number: int, *, now: float) -> None:
        """Add request `number`, which leaves now; numbers rise."""
        for skipped in range(max(self._last + 1, number - MOST_REMEMBERED), number):
            self._left[skipped % MOST_REMEMBERED] = -math.inf
        self._left[number % MOST_REMEMBERED] = now
        self._last, self._now = number, now

    def remove(self, number: int) -> None:
        """Remove request `number`, which was refused."""
        if number in self:
            self._left[number % MOST_REMEMBERED] = -math.inf

    def __contains__(self, number: int) -> bool:
        remembered = self._last - MOST_REMEMBERED < number <= self._last
        return remembered and self._left[number % MOST_REMEMBERED] >= self._now - self.memory

    def rate(self, *, until: float, before: int, seconds: float) -> float:
        """Return how many a second were accepted in the `seconds` up to `until`, of those before request `before`."""
        begin = max(until - seconds, math.nextafter(self._now - self.memory, -math.inf))
        first, end = max(0, self._last + 1 - MOST_REMEMBERED), min(before, self._last + 1)
        return sum(begin < self._left[number % MOST_REMEMBERED] for number in range(first, end)) / seconds


@attrs.define
class LearnedRate:
    """The limit on requests a second.

    Attributes:
        tuning: Constants.
        rate: The limit; infinity while none has been met.
        next: When the next request may leave.
        accepted: What the gateway accepted recently.
        growth: When the limit grows after a cut.
    """

    tuning: Tuning
    rate: float = math.inf
    next: float = -math.inf
    accepted: AcceptedRequests = attrs.field(factory=lambda: AcceptedRequests(_MEMORY))
    growth: Growth = attrs.field(init=False)
    _began: float = math.inf
    _cut_at: float = -math.inf
    _cut_after: int = -_FEW
    _recount: bool = False

    def __attrs_post_init__(self) -> None:
        self.growth = Growth(self.tuning)

    def sent(self, number: int, *, now: float, spread: float) -> bool:
        """Count request `number`, which leaves now, `spread` seconds before the next; return whether it had to wait."""
        self._began = min(self._began, now)
        if self._recount and now - self._cut_at >= _ALL_KNOWN:
            self._count_again()
        spacing = 1.0 / self.rate
        waited = now - self.next < spacing / 2
        spacing = max(spacing, spread)
        # The lateness of a timer is compensated, by at most half the spacing.
        self.next = max(self.next, now - spacing / 2) + spacing
        self.accepted.add(number, now=now)
        return waited

    def grow(self, *, now: float) -> None:
        """Grow, because a request was accepted that had to wait for the rate."""
        self.rate *= 1.0 + self.growth.due(now=now)

    def settled(self, *, now: float) -> bool:
        """Return whether the last cut has had time to take effect."""
        return now - self._cut_at >= SETTLING

    def used(self, number: int) -> bool:
        """Return whether enough requests have left since the last cut to judge it."""
        return number - self._cut_after >= _FEW

    def early(self, at: float) -> bool:
        """Return whether it is too early at an instant to measure a rate."""
        return at - self._began < SETTLING / 2

    def cut(self, number: int, *, at: float, after: int, pause: float, otherwise: float, now: float) -> None:
        """Cut to what was accepted when a request was refused.

        Args:
            number: The request.
            at: When it left.
            after: The last request that has left.
            pause: Seconds of the last pause that the gateway did not ask for; long ones mean a limit by the minute.
            otherwise: The rate if nothing was accepted, and nothing can be measured.
            now: The instant.
        """
        first = self.rate == math.inf
        measured = self._measured(number, at, pause)
        # A gateway that counts by the clock's seconds accepts more in ours; its limit is found step by step.
        again = now - self._cut_at < _SHORT and measured >= self.rate
        # With few requests, or after a pause, the measured rate may be far too low.
        least = 0.0 if first else self.rate * _LEAST
        part = _STEP_DOWN if again else self.tuning.margin
        self.rate = max(least, part * min(self.rate, measured or otherwise))
        self._cut_at, self._cut_after = now, after
        self._recount = first and not self.early(at)
        if first and (not measured or self.early(at)):
            self.growth.double(now=now)
        else:
            self.growth.begin(now=now, patience=min(_TRIAL / self.rate, _MEMORY))

    def _count_again(self) -> None:
        """Measure once more, now that late refusals have arrived: responses overtake each other."""
        self._recount = False
        accepted = self.accepted.rate(until=self._cut_at, before=self._cut_after + 1, seconds=SETTLING)
        if accepted and not self.growth.grown:
            self.rate = accepted * self.tuning.margin

    def restore(self, rate: float) -> None:
        """Undo cuts."""
        self.rate, self._cut_at = max(self.rate, rate), -math.inf

    def _measured(self, number: int, at: float, pause: float) -> float:
        # Too few requests give no measurement.
        seconds = max(SETTLING, _ENOUGH / self.rate, 4 * pause if pause > SETTLING else 0.0)
        spans = [min(seconds, _MEMORY), _MEMORY]
        if self.rate == math.inf and not self.early(at):
            # Right after a pause, the last second is empty.
            spans.append(max(SETTLING, min(_SHORT, at - self._began)))
        return max(self.accepted.rate(until=at, before=number, seconds=span) for span in spans)
