"""How fast requests may leave: as fast as the gateway was seen to take them when it refused one."""

from __future__ import annotations

import math

import attrs

from imagen_async.limiter.accepted import AcceptedRequests
from imagen_async.limiter.growth import Growth
from imagen_async.limiter.tuning import Tuning

__all__ = ["SETTLING", "LearnedRate"]

SETTLING = 1.0
"""Seconds after a cut in which a refusal says nothing new; the shortest time in which a rate is measured."""

_SHORT = 4.0
"""Seconds within which a second cut finds that the first one was too small."""

_STEP_DOWN = 0.92
"""What such a second cut leaves of the rate."""

_LEAST = 0.5
"""What one cut leaves of a known rate at least."""

_ENOUGH = 20
"""Requests from which a rate can be measured."""

_ALL_KNOWN = 0.2
"""Seconds after a cut in which refusals of requests that left before it are still coming in."""

_FEW = 10
"""Requests after a cut that are too few for another one."""

_TRIAL = 25
"""Requests within which a cut shows whether it has helped: till then nothing grows."""

_MEMORY = 60.0
"""Seconds over which a rate is measured at most."""


@attrs.define
class LearnedRate:
    """Requests a second.

    Attributes:
        tuning: Constants.
        rate: How many there may be.
        next: When the next one may leave.
        taken: What the gateway took lately.
        growth: When it grows.
    """

    tuning: Tuning
    rate: float = math.inf
    next: float = -math.inf
    taken: AcceptedRequests = attrs.field(factory=lambda: AcceptedRequests(_MEMORY))
    growth: Growth = attrs.field(init=False)
    _began: float = math.inf
    _cut_at: float = -math.inf
    _cut_after: int = -_FEW
    _recount: bool = False

    def __attrs_post_init__(self) -> None:
        self.growth = Growth(self.tuning)

    def sent(self, number: int, *, now: float, spread: float) -> bool:
        """Note that request `number` leaves, the next one `spread` seconds later at least; say if it had to wait."""
        self._began = min(self._began, now)
        if self._recount and now - self._cut_at >= _ALL_KNOWN:
            self._count_again()
        spacing = 1.0 / self.rate
        waited = now - self.next < spacing / 2
        spacing = max(spacing, spread)
        # What a timer was late by is made up for, but never by more than half a place.
        self.next = max(self.next, now - spacing / 2) + spacing
        self.taken.add(number, now=now)
        return waited

    def grow(self, *, now: float) -> None:
        """Note that a request was accepted that had to wait for the rate."""
        self.rate *= 1.0 + self.growth.due(now=now)

    def settled(self, *, now: float) -> bool:
        """Whether the last cut shows by now."""
        return now - self._cut_at >= SETTLING

    def used(self, number: int) -> bool:
        """Whether enough requests have left since the last cut to say that it was too small."""
        return number - self._cut_after >= _FEW

    def early(self, at: float) -> bool:
        """Whether nothing can be measured yet at an instant: what was taken till then is a beginning."""
        return at - self._began < SETTLING / 2

    def cut(self, number: int, *, at: float, after: int, pause: float, otherwise: float, now: float) -> None:
        """Cut to what was taken when a request was refused.

        Args:
            number: The request.
            at: When it left.
            after: The last request that has left.
            pause: Seconds of the last pause that was our own idea: where those are long, limits are of minutes.
            otherwise: The rate where nothing was taken; there is nothing to go by but the pauses.
            now: The instant.
        """
        first = self.rate == math.inf
        measured = self._measured(number, at, pause)
        # A gateway that counts by the clock's seconds takes more in ours: then it is found step by step.
        again = now - self._cut_at < _SHORT and measured >= self.rate
        # Few requests, or the end of a pause, may measure far too little.
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
        """Measure once more, now that it is known which of a crowd were refused; answers overtake each other."""
        self._recount = False
        taken = self.taken.rate(until=self._cut_at, before=self._cut_after + 1, seconds=SETTLING)
        if taken and not self.growth.grown:
            self.rate = taken * self.tuning.margin

    def restore(self, rate: float) -> None:
        """Take cuts back."""
        self.rate, self._cut_at = max(self.rate, rate), -math.inf

    def _measured(self, number: int, at: float, pause: float) -> float:
        # A few requests measure nothing.
        seconds = max(SETTLING, _ENOUGH / self.rate, 4 * pause if pause > SETTLING else 0.0)
        spans = [min(seconds, _MEMORY), _MEMORY]
        if self.rate == math.inf and not self.early(at):
            # Right after a pause the last second knows nothing.
            spans.append(max(SETTLING, min(_SHORT, at - self._began)))
        return max(self.taken.rate(until=at, before=number, seconds=span) for span in spans)
