"""The gate: a few bodies are read at a time, each quickly, instead of all of them slowly.

A body that arrives as fast as the machine can read it passes while its bytes are in the processor's cache, and only a
few bodies occupy memory. A slow body must not block the others: it leaves the gate early and is read on outside it, in
smaller spans. A complete body stays in the gate until the backlog of unwritten bodies has room for it, so that a
stalling disk does not fill the memory.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Backlog", "Gate", "Passage"]

_INTERVAL = 0.05
"""Seconds between two checks of whether a body is fast enough to stay in the gate."""

_FAST = 20e6
"""Bytes a second; a busy event loop reads several times as many from each of a few bodies."""

_SPAN_INSIDE = 2 * 2**20
"""Bytes of an image gathered for one hop to a thread: most images whole. A hop costs several thread switches."""

_SPAN_OUTSIDE = 2**18

_BACKLOG = 16 * 2**20
"""Bytes of complete bodies that may wait to be written, so that the writer threads never wait for work."""


class Gate:
    """Limits how many bodies are read at the same time.

    Args:
        size: Most bodies in the gate.
        threads: Returns how many threads write; the backlog grows with them.

    Attributes:
        inside: Bodies in the gate.
    """

    def __init__(self, size: int, *, threads: Callable[[], int] = lambda: 1) -> None:
        self.size = size
        self.inside = 0
        self.backlog = Backlog(lambda: _capacity(threads()))
        self._free = asyncio.Semaphore(size)

    def __repr__(self) -> str:
        return f"<Gate {self.inside} of {self.size} bodies inside, {self.backlog.size} bytes in the backlog>"

    @property
    def full(self) -> bool:
        """Whether the next body has to wait."""
        return self._free.locked()

    async def enter(self) -> None:
        """Wait for room and occupy it."""
        await self._free.acquire()
        self.inside += 1

    def leave(self) -> None:
        """Free what `enter` occupied."""
        self.inside -= 1
        self._free.release()


def _capacity(threads: int) -> int:
    return max(_BACKLOG, 2 * threads * _SPAN_INSIDE)


class Backlog:
    """Bytes that wait to be written, bounded; callers are admitted in the order in which they came.

    Args:
        capacity: Returns how many bytes fit. A body larger than that is admitted alone.

    Attributes:
        size: Bytes admitted.
    """

    def __init__(self, capacity: Callable[[], int]) -> None:
        self.capacity = capacity
        self.size = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    async def enter(self, size: int) -> None:
        """Wait until `size` bytes fit, and add them."""
        admitted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((admitted, size))
        self._admit()
        try:
            await admitted
        except asyncio.CancelledError:
            if admitted.done() and not admitted.cancelled():
                self.leave(size)
            else:
                self._admit()  # the caller behind this one may fit
            raise

    def leave(self, size: int) -> None:
        """Remove `size` bytes."""
        self.size -= size
        self._admit()

    def _admit(self) -> None:
        while self._waiting:
            admitted, size = self._waiting[0]
            if not admitted.done():
                if self.size and self.size + size > self.capacity():
                    return
                self.size += size
                admitted.set_result(None)
            self._waiting.popleft()


class Passage:
    """One body's way through the gate, as ``async with``.

    Args:
        gate: The gate.

    Attributes:
        receiving: Whether the body waits for the network; a body that waits for our own disk is never too slow.
        received: Bytes received since its speed was checked.
        span: Bytes of an image to gather before a thread is asked to write them.
        checks: How often its speed was checked.
    """

    __slots__ = ("_gate", "_timer", "_unwritten", "checks", "received", "receiving", "span")

    def __init__(self, gate: Gate) -> None:
        self.receiving = True
        self.received = 0
        self.span = _SPAN_OUTSIDE
        self.checks = 0
        self._gate = gate
        self._unwritten = 0
        self._timer: asyncio.TimerHandle | None = None

    async def __aenter__(self) -> Self:
        await self._gate.enter()
        self.span = _SPAN_INSIDE
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._check_speed)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def leave(self) -> None:
        """Leave the gate; does nothing outside it."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self.span = _SPAN_OUTSIDE
            self._gate.leave()

    async def complete(self, unwritten: int) -> None:
        """Leave the gate as soon as `unwritten` bytes fit into the backlog; `written` removes them from it."""
        self.receiving = False
        if unwritten:
            await self._gate.backlog.enter(unwritten)
            self._unwritten = unwritten
        self.leave()

    def written(self) -> None:
        """Remove the body from the backlog; does nothing the second time."""
        size, self._unwritten = self._unwritten, 0
        if size:
            self._gate.backlog.leave(size)

    def _check_speed(self) -> None:
        # The first check may come right after the beginning.
        if self.checks and self.receiving and self.received < _FAST * _INTERVAL:
            self.leave()
            return
        self.checks += 1
        self.received = 0
        self._timer = asyncio.get_running_loop().call_later(_INTERVAL, self._check_speed)
