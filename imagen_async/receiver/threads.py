"""Writer threads: where files are written, and disks may stall.

What is handed to a thread is always waited for, even by a caller that is cancelled: nothing may still be writing to a
file that its owner is about to discard. Results of several hops come back in one wake of the event loop, which an
executor of `concurrent.futures` does not do: with it a hop cost as much as decoding an image.
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

_AT_A_TIME = 2
"""Callers that go on in one turn of the loop: after a pause of the disk many could, and all else would wait for it."""


class _Hop(Generic[_T]):
    """One piece of work on its way through a thread and back."""

    __slots__ = ("_result", "ended", "error", "waiter", "work")

    def __init__(self, work: Callable[[], _T], waiter: asyncio.Future[None]) -> None:
        self.work = work
        self.waiter = waiter
        self.ended = False
        self.error: BaseException | None = None

    def do(self) -> None:
        """In a thread: do the work, and keep what comes of it."""
        try:
            self._result = self.work()
        except BaseException as error:  # noqa: BLE001 - it is raised where the work is waited for
            self.error = error

    def end(self) -> None:
        """In the loop: let the caller go on."""
        self.ended = True
        if not self.waiter.done():
            self.waiter.set_result(None)

    def result(self) -> _T:
        """Give what came of it."""
        if self.error is not None:
            raise self.error
        return self._result


class WriterThreads:
    """A few threads, for one event loop; they begin with the first work.

    Args:
        count: How many; None: as many as `widen` asks for.
    """

    def __init__(self, count: int | None = None) -> None:
        self._fixed = count is not None
        self.count = count or 1
        self._threads: list[threading.Thread] = []
        self._waiting: SimpleQueue[_Hop[Any] | None] = SimpleQueue()
        self._ended: deque[_Hop[Any]] = deque()
        self._told = False
        """Whether the loop is about to look at what has ended; only ever set too early, never too late."""

    def __repr__(self) -> str:
        return f"<WriterThreads: {self.count} threads>"

    def widen(self, count: int) -> None:
        """Have at least so many threads from now on, unless their number is fixed."""
        if not self._fixed:
            self.count = max(self.count, count)

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do `work` in a thread; a cancellation arrives only when the work has ended."""
        loop = asyncio.get_running_loop()
        if len(self._threads) < self.count:
            self._start(loop)
        hop = _Hop(partial(work, *args, **kwargs), loop.create_future())
        self._waiting.put(hop)
        try:
            await hop.waiter
        except asyncio.CancelledError:
            while not hop.ended:
                hop.waiter = loop.create_future()
                with contextlib.suppress(asyncio.CancelledError):
                    await hop.waiter
            raise
        try:
            return hop.result()
        finally:
            del hop  # an error's traceback holds this frame, which must not hold the error

    def close(self) -> None:
        """End the threads; all work has been waited for by who asked for it."""
        threads, self._threads = self._threads, []
        for _ in threads:
            self._waiting.put(None)
        for thread in threads:
            thread.join()

    def _start(self, loop: asyncio.AbstractEventLoop) -> None:
        # Daemons: a client that nobody closed must not keep the process from ending.
        for number in range(len(self._threads), self.count):
            thread = threading.Thread(target=self._work, args=(loop,), name=f"imagen-writer_{number}", daemon=True)
            thread.start()
            self._threads.append(thread)

    def _work(self, loop: asyncio.AbstractEventLoop) -> None:
        while (hop := self._waiting.get()) is not None:
            hop.do()
            self._ended.append(hop)
            del hop  # an idle thread keeps no image in memory
            if not self._told:
                self._told = True
                with contextlib.suppress(RuntimeError):  # the loop is closed, and nobody waits
                    loop.call_soon_threadsafe(self._deliver, loop)

    def _deliver(self, loop: asyncio.AbstractEventLoop) -> None:
        self._told = False
        for _ in range(min(len(self._ended), _AT_A_TIME)):
            self._ended.popleft().end()
        if self._ended:
            self._told = True
            loop.call_soon(self._deliver, loop)
