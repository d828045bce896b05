"""When the next request may leave by a rate that the user has set.

Arithmetic on instants that the caller gives; nothing here knows a clock.
"""

from __future__ import annotations

import math

__all__ = ["Spacing"]


class Spacing:
    """At most so many a minute, evenly spaced, so that no window's edge sees a burst.

    Args:
        per_minute: Requests a minute, or images, or whatever is counted.

    Example:
        >>> rate = Spacing(60)
        >>> rate.take(now=0.0)
        >>> rate.wait(now=0.25)
        0.75
    """

    def __init__(self, per_minute: float) -> None:
        if not per_minute > 0:
            raise ValueError(f"a rate must be above 0 a minute, not {per_minute}")
        self._spacing = 60.0 / per_minute
        self._next = -math.inf

    def wait(self, *, now: float) -> float:
        """Return the seconds until the next one may leave; 0 if it may now."""
        return max(0.0, self._next - now)

    def take(self, count: int = 1, *, now: float) -> None:
        """Note that `count` leave."""
        self._next = max(self._next, now) + count * self._spacing
