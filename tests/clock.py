"""Time that passes only when a test says so.

`FakeClock` stands in for the clock and the sleep that our own classes take as arguments; `LoopClock` moves the
running event loop's clock, on which aiohttp's time-outs run.
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
"""What the wall clock shows when the other one shows 0."""


class FakeClock:
    """A clock that stands still between sleeps.

    Args:
        moves: Whether a sleep ends at once and takes the clock with it; otherwise sleepers wait for `advance`.

    Attributes:
        now: What it shows.
        slept: Every sleep that was asked for, in order.
    """

    def __init__(self, *, moves: bool = True) -> None:
        self.now = 100.0
        self.slept: list[float] = []
        self._moves = moves
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Event]] = []

    def runtime(self, draw: Callable[[], float] = random.random) -> Runtime:
        """Return the runtime of a client that lives by this clock."""
        return Runtime(clock=self.clock, wall_clock=self.wall_clock, sleep=self.sleep, draw=draw)

    @property
    def sleeping(self) -> int:
        """How many wait for `advance`."""
        return len(self._sleepers)

    def clock(self) -> float:
        """Give monotonic seconds."""
        return self.now

    def wall_clock(self) -> float:
        """Give seconds since the epoch."""
        return EPOCH + self.now

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock shows so much more."""
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
        """Let time pass, and everyone whose sleep ends do what they wanted to, in the order of time."""
        await settle()
        end = self.now + seconds
        while self._sleepers and self._sleepers[0][0] <= end:
            await self.wake_one()
        self.now = end
        await settle()

    async def wake_one(self) -> None:
        """Let time pass until the first sleeper wakes, and everyone do what they wanted to."""
        until, _, woken = heapq.heappop(self._sleepers)
        self.now = max(self.now, until)
        woken.set()
        await settle()


class LoopClock:
    """The running loop's clock, which can be put forward."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        real, self._ahead = loop.time, 0.0
        loop.time = lambda: real() + self._ahead  # type: ignore[method-assign] # the point of this class

    async def jump(self, seconds: float) -> None:
        """Let so many seconds be over at once: every timer that was to go off within them goes off."""
        self._ahead += seconds
        await settle()


async def settle() -> None:
    """Let every task that can run do so; none of them may wait for a socket or a thread."""
    for _ in range(25):
        await asyncio.sleep(0)


async def until(condition: Callable[[], object]) -> None:
    """Wait for something that a socket or a thread brings about; pytest's time-out is its limit."""
    while not condition():  # noqa: ASYNC110 - what is waited for has no event
        await asyncio.sleep(0.0005)
