"""Reads blocking sources in threads, for the event loop.

The threads are daemons: a thread that waits for an idle pipe or a disk must not keep the program from ending.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterator

__all__ = ["Feed", "aside"]

_T = TypeVar("_T")


async def aside(work: Callable[[], _T]) -> _T:
    """Run `work` in a thread of its own; if the caller is cancelled, the thread goes on without it.

    Raises:
        BaseException: Raised by `work`.
    """
    done: Future[_T] = Future()
    done.set_running_or_notify_cancel()  # cannot be cancelled any more
    threading.Thread(target=_do, args=(work, done), name="imagen-input", daemon=True).start()
    return await asyncio.wrap_future(done)


def _do(work: Callable[[], _T], done: Future[_T]) -> None:
    try:
        done.set_result(work())
    except BaseException as error:  # noqa: BLE001 - raised to the waiting caller
        done.set_exception(error)


class Feed(Generic[_T]):
    """Groups of the rows that `open_rows` yields, as soon as there are any; reads a little ahead of the loop.

    Args:
        open_rows: Called in the thread; may block and raise.
        ahead: Most rows that are read ahead.
    """

    def __init__(self, open_rows: Callable[[], Iterator[_T]], *, ahead: int = 512) -> None:
        self._open_rows = open_rows
        self._ahead = ahead
        self._rows: deque[_T] = deque()
        self._changed = threading.Condition()
        self._error: BaseException | None = None
        self._ended = False
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._wake = asyncio.Event()

    async def groups(self, most: int) -> AsyncGenerator[list[_T], None]:
        """Iterate over groups of one to `most` rows.

        Raises:
            BaseException: Raised by `open_rows`, after the rows before it.
        """
        self._loop = asyncio.get_running_loop()
        threading.Thread(target=self._read, name="imagen-rows", daemon=True).start()
        try:
            while group := await self._take(most):
                yield group
        finally:
            self.close()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End the thread at its next row."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    async def _take(self, most: int) -> list[_T]:
        while True:
            self._wake.clear()
            with self._changed:
                group = [self._rows.popleft() for _ in range(min(most, len(self._rows)))]
                if group or self._ended:
                    self._changed.notify()
                    return group
            await self._wake.wait()

    def _read(self) -> None:
        try:
            for row in self._open_rows():
                if not self._put(row):
                    return
        except BaseException as error:  # noqa: BLE001 - raised to the consumer of the rows
            self._error = error
        finally:
            with self._changed:
                self._ended = True
            self._call()

    def _put(self, row: _T) -> bool:
        with self._changed:
            self._changed.wait_for(lambda: len(self._rows) < self._ahead or self._closed)
            if self._closed:
                return False
            self._rows.append(row)
            first = len(self._rows) == 1
        if first:
            self._call()
        return True

    def _call(self) -> None:
        assert self._loop is not None, "the thread starts after the loop is known"  # noqa: S101 - see `groups`
        try:
            self._loop.call_soon_threadsafe(self._wake.set)
        except RuntimeError:  # the loop is closed
            self.close()
