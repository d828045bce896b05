"""Timeouts of an attempt: the settings, and the deadline that enforces them on one timer."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Literal, TypeVar

import attrs

from imagen_async._validation import Number

if TYPE_CHECKING:
    from collections.abc import Awaitable

__all__ = ["Deadline", "DeadlineExceeded", "Phase", "Timeouts"]

T = TypeVar("T")

Phase = Literal["connect", "read", "total"]


_SECONDS = Number(0, beyond=True, optional=True)


@attrs.frozen(kw_only=True)
class Timeouts:
    """Timeouts of one attempt, in seconds; None sets no limit. The wait for a permit counts in none of them.

    Attributes:
        connect: Until the request can leave: name lookup, TCP, TLS and a proxy's CONNECT.
        read: From the request to the response's headers, and between two reads of the body. A generation may take
            minutes before the first byte.
        total: All waits for the gateway in one attempt. Time that this machine takes, to decode or to write, is not
            counted.

    Raises:
        ConfigurationError: A value is not a positive, finite number.
    """

    connect: float | None = attrs.field(default=10.0, validator=_SECONDS)
    read: float | None = attrs.field(default=300.0, validator=_SECONDS)
    total: float | None = attrs.field(default=900.0, validator=_SECONDS)


class DeadlineExceeded(TimeoutError):  # noqa: N818 - becomes the public TimeoutExceededError at the room's border
    """A deadline has passed.

    Attributes:
        phase: The timeout that ran out.
    """

    def __init__(self, phase: Phase) -> None:
        super().__init__(phase)
        self.phase = phase


class Deadline:
    """Enforces the timeouts of one attempt, one wait for the gateway after another.

    Args:
        timeouts: The settings.
    """

    __slots__ = ("_left", "_limits", "_phase", "_time", "_timer", "_total_at")

    def __init__(self, timeouts: Timeouts) -> None:
        self._limits: dict[Phase, float | None] = {"connect": timeouts.connect, "read": timeouts.read, "total": None}
        self._left = math.inf if timeouts.total is None else timeouts.total
        self._time = asyncio.get_running_loop().time
        self._timer: asyncio.Timeout | None = None
        self._total_at = math.inf
        self._phase: Phase = "total"

    async def wait(self, phase: Phase, gateway: Awaitable[T]) -> T:
        """Wait for the gateway until the timeout of a phase or the total runs out.

        Raises:
            DeadlineExceeded: A timeout ran out.
        """
        began = self._time()
        self._total_at = began + self._left
        try:
            async with asyncio.timeout_at(self._due(phase, began)) as self._timer:
                return await gateway
        except TimeoutError:
            if self._timer is None or not self._timer.expired():
                raise
            raise DeadlineExceeded(self._phase) from None
        finally:
            self._timer = None
            self._left = self._total_at - self._time()

    def restart(self, phase: Phase) -> None:
        """Start the timeout of a phase, because the request leaves or bytes have arrived."""
        timer = self._timer
        if timer is not None and not timer.expired():
            timer.reschedule(self._due(phase, self._time()))

    def _due(self, phase: Phase, now: float) -> float | None:
        seconds = self._limits[phase]
        due = math.inf if seconds is None else now + seconds
        self._phase = phase if due < self._total_at else "total"
        due = min(due, self._total_at)
        return due if due < math.inf else None
