"""Slots: permission to send, one request each.

A slot bounds the attempts in flight; it is held while a request is under way and not while its job backs off. With
the slot come the rate and the pauses of the whole pool: who has one may send now. The arithmetic is `pacing`'s; this
module only waits.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from imagen_async.pacing.rate import Pause, Rate

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

__all__ = ["Slots"]


class Slots:
    """A pool of slots.

    Args:
        size: Most requests in flight.
        rpm: Most requests a minute, evenly spaced, or None.
        clock: Gives monotonic seconds.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        size: int,
        *,
        rpm: float | None = None,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.size = size
        self.in_flight = 0
        self._free = asyncio.Semaphore(size)
        self._rate = Rate(rpm) if rpm is not None else None
        self._pause = Pause()
        self._turn = asyncio.Lock()
        self._clock = clock
        self._sleep = sleep

    def __repr__(self) -> str:
        return f"<Slots {self.in_flight} of {self.size} in flight>"

    async def __aenter__(self) -> None:
        """Wait for permission to send one request, and hold it."""
        await self._free.acquire()
        try:
            await self._permission()
        except BaseException:
            self._free.release()
            raise
        self.in_flight += 1

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.in_flight -= 1
        self._free.release()

    def hold(self, seconds: float) -> None:
        """Let nobody send for `seconds`: the gateway asked for it."""
        self._pause.hold(seconds, now=self._clock())

    async def _permission(self) -> None:
        # One at a time takes a place: places taken before a pause would all have come due at its end.
        async with self._turn:
            await self._paused()
            while self._rate is not None:
                now = self._clock()
                if (wait := self._rate.reserve(now=now) - now) > 0:
                    await self._sleep(wait)
                if not await self._paused():
                    return

    async def _paused(self) -> bool:
        """Wait until no pause is on; say whether one was."""
        waited = False
        # A pause may be made longer while its end is waited for.
        while (left := self._pause.remaining(now=self._clock())) > 0:
            waited = True
            await self._sleep(left)
        return waited
