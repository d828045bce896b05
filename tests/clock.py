"""Clocks that a test moves.

`FakeClock` replaces the clocks and the sleep of a client. `LoopClock` moves the running event loop's clock, which
timeouts use.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from typing import TYPE_CHECKING

from imagen_async.client.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["FakeClock", "LoopClock", "settle", "until"]

EPOCH = 1_800_000_000.0
"""The time of the wall clock when the monotonic clock shows 0."""


class FakeClock:
    """A clock that stands still between sleeps.

    Args:
        moves: Whether a sleep moves the clock and ends immediately; otherwise sleepers wait for `advance`.

    Attributes:
        now: The time of the monotonic clock.
        slept: The seconds of every sleep, in order.
    """

    def __init__(self, *, moves: bool = True) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self._moves = moves
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []

    def runtime(self, draw: Callable[[], float] = random.random) -> Runtime:
        """Return the runtime of a client that uses this clock."""
        return Runtime(clock=self.clock, wall_clock=self.wall_clock, sleep=self.sleep, draw=draw)

    @property
    def sleeping(self) -> int:
        """The number of sleepers that wait for `advance`."""
        return len(self._sleepers)

    def clock(self) -> float:
        """Return monotonic seconds."""
        return self.now

    def wall_clock(self) -> float:
        """Return seconds since the epoch."""
        return EPOCH + self.now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has moved by so many seconds."""
        self.slept.append(seconds)
        until = self.now + seconds
        if self._moves:
            await asyncio.sleep(0)
            self.now = max(self.now, until)
            return
        sleeper = (until, next(self._order), asyncio.Event())
        heapq.heappush(self._sleepers, sleeper)
        try:
            await sleeper[2].wait()
        finally:
            if sleeper in self._sleepers:
                self._sleepers.remove(sleeper)
                heapq.heapify(self._sleepers)

    async def advance(self, seconds: float) -> None:
        """Move the clock, and wake each sleeper whose time has come, in the order of time."""
        await settle()
        end = self.now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            await self.wake_one()
        self.now = end
        await settle()

    async def wake_one(self) -> None:
        """Move the clock to the time of the first sleeper, and wake it."""
        until, _, woken = heapq.heappop(self._sleepers)
        self.now = max(self.now, until)
        woken.set()
        await settle()


class LoopClock:
    """Moves the running event loop's clock forward."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        real, self._ahead = loop.time, 0.0
        loop.time = lambda: real() + self._ahead  # type: ignore[method-assign] # the point of this class

    async def jump(self, seconds: float) -> None:
        """Move the clock by so many seconds; every timer that is due by then fires."""
        self._ahead += seconds
        await settle()


async def settle() -> None:
    """Run every task that can run; none may wait for a socket or a thread."""
    for _ in range(25):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait until a condition holds that a socket or a thread fulfils; pytest's timeout is the limit."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.0005)
