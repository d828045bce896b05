"""How many requests a gateway took lately: what its limit is, at the moment it refuses one."""

from __future__ import annotations

import math
from collections import deque

import attrs

__all__ = ["Taken"]

_MOST = 16_384
"""Requests that are remembered at most."""


@attrs.define
class Taken:
    """When the requests of the last seconds left that were not refused.

    A request that is under way counts: a refusal comes at once, an image takes its time.

    Args:
        memory: Seconds that are remembered.
    """

    memory: float
    _left: dict[int, float] = attrs.field(factory=dict)
    _order: deque[int] = attrs.field(factory=deque)

    def add(self, number: int, *, now: float) -> None:
        """Note that request `number` leaves; numbers rise."""
        self._left[number] = now
        self._order.append(number)
        # Not the dict's first key: to find that, a dict goes past all that were deleted before it.
        while self._left.get(self._order[0], -math.inf) < now - self.memory or len(self._order) > _MOST:
            self._left.pop(self._order.popleft(), None)

    def remove(self, number: int) -> None:
        """Note that request `number` was not taken."""
        self._left.pop(number, None)

    def __contains__(self, number: int) -> bool:
        return number in self._left

    def rate(self, *, until: float, before: int, seconds: float) -> float:
        """Return how many a second were taken in the `seconds` up to `until`, of those before request `before`."""
        begin = until - seconds
        return sum(begin < at and number < before for number, at in self._left.items()) / seconds
