"""How many requests a gateway took lately: what its limit is, at the moment it refuses one."""

from __future__ import annotations

import math
from array import array

import attrs

__all__ = ["AcceptedRequests"]

_MOST = 16_384
"""Requests that are remembered at most."""


def _nothing() -> array[float]:
    return array("d", [-math.inf]) * _MOST


@attrs.define
class AcceptedRequests:
    """When the requests of the last seconds left that were not refused.

    A request that is under way counts: a refusal comes at once, an image takes its time.

    The instants stand in a ring, each at its request's number. As an object apiece they came and went for as long as a
    batch runs, among those that live shortly, and kept whole arenas of memory from being given back.

    Args:
        memory: Seconds that are remembered.
    """

    memory: float
    _left: array[float] = attrs.field(factory=_nothing, repr=False)
    _last: int = -1
    _now: float = -math.inf

    def add(self, number: int, *, now: float) -> None:
        """Note that request `number` leaves; numbers rise."""
        for passed in range(max(self._last + 1, number - _MOST), number):
            self._left[passed % _MOST] = -math.inf
        self._left[number % _MOST] = now
        self._last, self._now = number, now

    def remove(self, number: int) -> None:
        """Note that request `number` was not taken."""
        if number in self:
            self._left[number % _MOST] = -math.inf

    def __contains__(self, number: int) -> bool:
        return self._last - _MOST < number <= self._last and self._left[number % _MOST] >= self._now - self.memory

    def rate(self, *, until: float, before: int, seconds: float) -> float:
        """Return how many a second were taken in the `seconds` up to `until`, of those before request `before`."""
        begin = max(until - seconds, math.nextafter(self._now - self.memory, -math.inf))
        first, end = max(0, self._last + 1 - _MOST), min(before, self._last + 1)
        return sum(begin < self._left[number % _MOST] for number in range(first, end)) / seconds
