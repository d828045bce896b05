"""When the next request may leave: an even rate, and pauses that the gateway asked for.

Arithmetic on instants that the caller gives; nothing here knows a clock.
"""

from __future__ import annotations

import attrs

__all__ = ["Pause", "Rate"]


class Rate:
    """At most so many requests a minute, evenly spaced, so that no window's edge sees a burst.

    Args:
        per_minute: Requests a minute.

    Example:
        >>> rate = Rate(60)
        >>> [rate.reserve(now=0.0) for _ in range(3)]
        [0.0, 1.0, 2.0]
    """

    def __init__(self, per_minute: float) -> None:
        if not per_minute > 0:
            raise ValueError(f"a rate must be above 0 requests a minute, not {per_minute}")
        self._spacing = 60.0 / per_minute
        self._next = float("-inf")

    def reserve(self, *, now: float) -> float:
        """Take the next place and return its instant, `now` or later."""
        instant = max(now, self._next)
        self._next = instant + self._spacing
        return instant


@attrs.define
class Pause:
    """A pause of the whole pool, as long as the longest that was asked for."""

    _until: float = float("-inf")

    def hold(self, seconds: float, *, now: float) -> None:
        """Let nothing leave for `seconds` from `now`; a shorter pause does not cut a longer one."""
        self._until = max(self._until, now + seconds)

    def remaining(self, *, now: float) -> float:
        """Return the seconds until something may leave; 0 when it may."""
        return max(0.0, self._until - now)
