"""Memory for images that the disk does not take, and patience for the disk to take them after all.

What was answered is paid for. When a store fails, an image on its way into it goes on into memory, as long as there is
room for it, and the store is asked again now and then. Nothing here knows what a store or an image is.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["OverflowPolicy", "Patience", "Spill"]

_FIRST_WAIT, _LONGEST_WAIT = 0.25, 4.0
"""Seconds between two tries; a disk that was full for a moment costs a moment."""


def _check_not_negative(_policy: object, field: attrs.Attribute[Any], value: float) -> None:
    if not value >= 0:
        raise ConfigurationError(f"{field.name} must be a number from 0, not {value}")


@attrs.frozen(kw_only=True)
class OverflowPolicy:
    """What becomes of images that were paid for and that the store does not take.

    Attributes:
        max_bytes: Bytes of them, all together, that are kept in memory; 0 for none.
        patience: Seconds that each is kept while the store is asked again.

    Raises:
        ConfigurationError: One of them is negative.

    Example:
        >>> OverflowPolicy(max_bytes=2**30)
        OverflowPolicy(max_bytes=1073741824, patience=30.0)
    """

    max_bytes: int = attrs.field(default=256 * 2**20, validator=_check_not_negative)
    patience: float = attrs.field(default=30.0, validator=_check_not_negative)


class Spill:
    """The room there is, shared by all images; `take` and `give_back` may be called in any thread.

    Args:
        policy: How much, and how long.
        clock: Gives monotonic seconds.
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
        self.held = 0
        """Bytes that are kept now."""
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()

    def take(self, size: int) -> bool:
        """Take room for so many bytes; say whether there was any."""
        with self._lock:
            if self.held + size > self.policy.max_bytes:
                return False
            self.held += size
            return True

    def give_back(self, size: int) -> None:
        """Give room back."""
        if size:
            with self._lock:
                self.held -= size

    def patience(self) -> Patience:
        """Begin to be patient with the store, for one answer's images."""
        return Patience(self._clock() + self.policy.patience, self._clock, self._sleep)


class Patience:
    """Waits between two tries, each time a little longer, up to a point in time."""

    def __init__(self, until: float, clock: Callable[[], float], sleep: Callable[[float], Awaitable[None]]) -> None:
        self._until = until
        self._clock = clock
        self._sleep = sleep
        self._wait = _FIRST_WAIT

    async def wait(self) -> bool:
        """Wait until it is time for another try; say whether there is to be one."""
        left = self._until - self._clock()
        if left <= 0:
            return False
        await self._sleep(min(self._wait, left))
        self._wait = min(2 * self._wait, _LONGEST_WAIT)
        return True
