"""When the next request may leave at a rate that the user has set.

Pure: instants are arguments.
"""

from __future__ import annotations

import math

__all__ = ["Spacing"]


class Spacing:
    """A rate a minute, evenly spaced, so that no window of a gateway sees a burst.

    Args:
        per_minute: Requests a minute, or images.

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
        """Count `count` that leave now."""
        self._next = max(self._next, now) + count * self._spacing
