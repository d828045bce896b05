"""How many requests the sandbox gateway lets in: a sliding minute and a number at once.

Arithmetic on a clock that is given; a refused request costs nothing and does not count.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["RequestLimits", "TurnedAway"]

WINDOW_S = 60.0


@attrs.frozen
class TurnedAway:
    """A request that came too early.

    Attributes:
        reason: The limit that it met, in words.
        wait_s: Seconds until there is room, or None where nobody can know.
    """

    reason: str
    wait_s: float | None


class RequestLimits:
    """Admits requests within two limits.

    Args:
        rpm: Requests admitted in any 60 seconds, or None.
        max_concurrent: Requests inside at once, or None.
        clock: Seconds that only go up.

    Example:
        >>> gate = RequestLimits(rpm=1, max_concurrent=None, clock=lambda: 7.0)
        >>> gate.admit(), gate.admit()
        (None, TurnedAway(reason='1 request a minute', wait_s=60.0))
    """

    def __init__(self, *, rpm: int | None, max_concurrent: int | None, clock: Callable[[], float]) -> None:
        self._rpm = rpm
        self._max_concurrent = max_concurrent
        self._clock = clock
        self._admitted: deque[float] = deque()
        self.inside = 0
        self.most_inside = 0

    def admit(self) -> TurnedAway | None:
        """Let a request in, to be matched by one `leave`; or say why not."""
        if self._max_concurrent is not None and self.inside >= self._max_concurrent:
            return TurnedAway(f"{_requests(self._max_concurrent)} at once", None)
        if self._rpm is not None and (wait := self._wait(self._rpm)) > 0:
            return TurnedAway(f"{_requests(self._rpm)} a minute", wait)
        self.inside += 1
        self.most_inside = max(self.most_inside, self.inside)
        return None

    def leave(self) -> None:
        """End a request that was let in."""
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
