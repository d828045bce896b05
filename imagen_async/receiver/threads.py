"""Writer threads: where files are written, and where disks may stall.

Work that was handed to a thread is always waited for, also by a caller that is cancelled: nothing may still write to a
file that its owner is about to discard. The results of several hops come back in one wake-up of the event loop, unlike
with an executor of `concurrent.futures`, where a hop was measured to cost as much as decoding an image.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from functools import partial
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["WriterThreads"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_RESUMED = 2
"""Callers resumed in one turn of the loop: after a pause of the disk many could be, and the loop would stand still."""


class _Hop(Generic[_T]):
    """One piece of work on its way through a thread and back."""

    __slots__ = ("ended", "error", "result", "waiter", "work")

    result: _T

    def __init__(self, work: Callable[[], _T], waiter: asyncio.Future[None]) -> None:
        self.work = work
        self.waiter = waiter
        self.ended = False
        self.error: BaseException | None = None

    def do(self) -> None:
        """Do the work, in a thread, and keep its result."""
        try:
            self.result = self.work()
        except BaseException as error:  # noqa: BLE001 - raised where the work is awaited
            self.error = error


class WriterThreads:
    """A few threads for one event loop; they start with the first work.

    Args:
        count: How many; None for as many as `widen` asks for.

    Attributes:
        count: How many there are once they have started.
        closed: Whether they were ended.
    """

    def __init__(self, count: int | None = None) -> None:
        self._fixed = count is not None
        self.count = count or 1
        self._threads: list[threading.Thread] = []
        self._queue: SimpleQueue[_Hop[Any] | None] = SimpleQueue()
        self._ended: deque[_Hop[Any]] = deque()
        self._woken = False
        """Whether the loop is about to look at `_ended`; set too early at worst, never too late."""
        self.closed = False

    def __repr__(self) -> str:
        return f"<WriterThreads: {self.count} threads>"

    def widen(self, count: int) -> None:
        """Use at least `count` threads from now on, unless their number is fixed."""
        if not self._fixed:
            self.count = max(self.count, count)

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run `work` in a thread; a cancellation is raised only after the work has ended.

        After `close` no thread starts again: what a job in flight still has to discard is done in the event loop.

        Raises:
            BaseException: Whatever `work` raised.
        """
        if self.closed:
            return work(*args, **kwargs)
        loop = asyncio.get_running_loop()
        if len(self._threads) < self.count:
            self._start(loop)
        hop = _Hop(partial(work, *args, **kwargs), loop.create_future())
        self._queue.put(hop)
        try:
            await hop.waiter
        except asyncio.CancelledError:
            while not hop.ended:
                hop.waiter = loop.create_future()
                with contextlib.suppress(asyncio.CancelledError):
                    await hop.waiter
            raise
        try:
            if hop.error is not None:
                raise hop.error
            return hop.result
        finally:
            del hop  # an error's traceback holds this frame, which must not hold the error

    def close(self) -> None:
        """End the threads; every piece of work has been awaited by its caller."""
        self.closed = True
        threads, self._threads = self._threads, []
        for _ in threads:
            self._queue.put(None)
        for thread in threads:
            thread.join()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        # Daemons: a client that was never closed must not keep the process from ending.
        for number in range(len(self._threads), self.count):
            thread = threading.Thread(target=self._work, args=(loop,), name=f"imagen-writer_{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (hop := self._queue.get()) is not None:
            hop.do()
            self._ended.append(hop)
            del hop  # an idle thread keeps no image in memory
            if not self._woken:
                self._woken = True
                with contextlib.suppress(RuntimeError):  # the loop is closed, and no caller waits
                    loop.call_soon_threadsafe(self._deliver, loop)

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        self._woken = False
        for _ in range(min(len(self._ended), _RESUMED)):
            hop = self._ended.popleft()
            hop.ended = True
            if not hop.waiter.done():
                hop.waiter.set_result(None)
        if self._ended:
            self._woken = True
            loop.call_soon(self._deliver, loop)
