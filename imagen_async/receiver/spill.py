"""Memory for images that their store does not accept, and the schedule on which the store is tried again.

A received image is paid for. When its store fails, the image goes on in memory as long as there is room, and the store
is tried again for a while. This module knows neither stores nor images.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import attrs

from imagen_async._validation import Number

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["OverflowPolicy", "Spill", "StoreRetry"]

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 4.0
"""Seconds between two tries of a store; a disk that was full for a moment costs a moment."""


@attrs.frozen(kw_only=True)
class OverflowPolicy:
    """What happens to paid images that their store does not accept.

    Attributes:
        max_bytes: Bytes of such images that are kept in memory, in total; 0 keeps none.
        patience: Seconds for which the store is tried again before an image is lost.

    Raises:
        ConfigurationError: A value is not a number from 0.

    Example:
        >>> OverflowPolicy(max_bytes=2**30)
        OverflowPolicy(max_bytes=1073741824, patience=30.0)
    """

    max_bytes: int = attrs.field(default=256 * 2**20, validator=Number(0, whole=True))
    patience: float = attrs.field(default=30.0, validator=Number(0, endless=True))


class Spill:
    """Memory for spilled images, shared by all responses; `reserve` and `release` may be called in any thread.

    Args:
        policy: How much memory, and for how long a store is tried again.
        clock: Returns monotonic seconds.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        policy: OverflowPolicy | None = None,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.policy = policy or OverflowPolicy()
        self.reserved = 0
        """Bytes in use."""
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()

    def reserve(self, size: int) -> bool:
        """Reserve `size` bytes; return whether there was room."""
        with self._lock:
            if self.reserved + size > self.policy.max_bytes:
                return False
            self.reserved += size
            return True

    def release(self, size: int) -> None:
        """Release reserved bytes."""
        if size:
            with self._lock:
                self.reserved -= size

    def store_retry(self) -> StoreRetry:
        """Start the schedule of one response's store."""
        return StoreRetry(self._clock() + self.policy.patience, self._clock, self._sleep)


class StoreRetry:
    """Waits between two tries of a store, each time longer, until a deadline."""

    def __init__(self, deadline: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._wait = _FIRST_WAIT

    async def wait(self) -> bool:
        """Wait until the next try is due; return False once the deadline has passed."""
        left = self._deadline - self._clock()
        if left <= 0:
            return False
        await self._sleep(min(self._wait, left))
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        return True
