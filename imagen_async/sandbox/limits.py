"""Limits the requests of the sandbox gateway: in any minute, and concurrently.

The clock is an argument. A refused request does not count.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OverLimit", "RequestLimits"]

WINDOW_S = 60.0


@attrs.frozen
class OverLimit:
    """Why a request exceeds a limit.

    Attributes:
        reason: The limit, in words.
        wait_s: Seconds until a request is admitted again, or None if unknown.
    """

    reason: str
    wait_s: float | None


class RequestLimits:
    """Admits requests within two limits.

    Args:
        rpm: Requests admitted in any 60 seconds, or None.
        max_concurrent: Requests admitted concurrently, or None.
        clock: Returns monotonic seconds.

    Example:
        >>> limits = RequestLimits(rpm=1, max_concurrent=None, clock=lambda: 7.0)
        >>> limits.admit(), limits.admit()
        (None, OverLimit(reason='1 request a minute', wait_s=60.0))
    """

    def __init__(self, *, rpm: int | None, max_concurrent: int | None, clock: Callable[[], float]) -> None:
        self._rpm = rpm
        self._max_concurrent = max_concurrent
        self._clock = clock
        self._admitted: deque[float] = deque()
        self.inside = 0
        self.most_inside = 0

    def admit(self) -> OverLimit | None:
        """Admit a request, to be followed by one `leave`, or return why it is not admitted."""
        if self._max_concurrent is not None and self.inside >= self._max_concurrent:
            return OverLimit(f"{_requests(self._max_concurrent)} at a time", None)
        if self._rpm is not None and (wait := self._wait(self._rpm)) > 0:
            return OverLimit(f"{_requests(self._rpm)} a minute", wait)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        return None

    def leave(self) -> None:
        """End an admitted request."""
        self.inside -= 1

    def _wait(self, rpm: int) -> float:
        now = self._clock()
        while self._admitted and now - self._admitted[0] >= WINDOW_S:
            self._admitted.popleft()
        if len(self._admitted) >= rpm:
            return self._admitted[0] + WINDOW_S - now
        self._admitted.append(now)
        return 0.0


def _requests(count: int) -> str:
    return f"{count} request" if count == 1 else f"{count} requests"
