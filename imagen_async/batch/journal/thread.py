"""The one thread that owns the journal's connection, and group commit.

Waiting steps run together in one transaction and are acknowledged together after its commit, so that a hundred waiters
share one flush of the disk. The rules: nothing is acknowledged before it is durable; a step that fails does not affect
the others; after a failed commit or damage to the file no further step is accepted.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, Concatenate, ParamSpec, TypeVar

import attrs

from imagen_async._cancellation import ended
from imagen_async.exceptions import JournalError, printable

__all__ = ["Writer"]

P = ParamSpec("P")
T = TypeVar("T")

LARGEST_GROUP = 1024
"""Most steps in one transaction; it bounds the wait of the first one."""


@attrs.frozen(eq=False)
class _Waiting:
    step: Callable[[sqlite3.Connection], Any]
    future: asyncio.Future[Any]


@attrs.frozen(eq=False)
class _Result:
    future: asyncio.Future[Any]
    value: Any = None
    error: BaseException | None = None


class Writer:
    """Runs steps in a thread of its own, in groups, each group in one transaction.

    Args:
        session: Opens the connection for as long as the writer lives; entered and left in the thread.
    """

    def __init__(self, session: Callable[[], AbstractContextManager[sqlite3.Connection]]) -> None:
        self._session = session
        self._loop = asyncio.get_running_loop()
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._refusal: str | None = None
        self._closing = False
        # A daemon: a program that forgets to close it must still be able to end, and the file survives a kill.
        self._thread = threading.Thread(target=self._run, name="imagen-journal", daemon=True)

    async def start(self) -> None:
        """Open the connection.

        Raises:
            JournalError: What the session raised.
        """
        self._thread.start()
        try:
            await asyncio.shield(self._opened)
        except BaseException:
            # Cancelled while opening, or refused: the folder is unlocked before the caller continues.
            self._opened.add_done_callback(lambda opened: opened.cancelled() or opened.exception())
            await self.close()
            raise

    async def perform(
        self, step: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `step` with these arguments in the thread, in a transaction; return its result once it is durable.

        The step may run again after a rollback. Cancelling the wait does not undo it.

        Raises:
            JournalError: The journal is closed or broken. Other errors of the step are raised unchanged.
        """
        if self._refusal is not None or self._closing:
            raise JournalError(self._refusal or "the journal is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Waiting(lambda connection: step(connection, *args, **kwargs), future))
        return await future

    async def close(self) -> None:
        """Finish the waiting steps, close the connection and end the thread; a second call waits for the first.

        A cancellation is raised only after that.
        """
        if not self._closing:
            self._closing = True
            self._queue.put(None)
        cancelled = await ended(self._ended)
        self._thread.join()
        if cancelled is not None:
            raise cancelled

    # --- in the thread ---

    def _run(self) -> None:
        try:
            with self._session() as connection:
                self._resolve([_Result(self._opened)])
                while group := self._next_group():
                    self._resolve(self._served(connection, group))
        except BaseException as error:  # noqa: BLE001 - a thread has no caller; the waiters get it
            self._refusal = self._refusal or f"the journal stopped: {printable(str(error))}"
            self._resolve([_Result(self._opened, error=error)])
        self._resolve([*self._left_over(), _Result(self._ended)])

    def _next_group(self) -> list[_Waiting]:
        """Wait for a step, then take all that wait with it; empty at the end."""
        group: list[_Waiting] = []
        item = self._queue.get()
        with suppress(queue.Empty):
            while item is not None:
                group.append(item)
                if len(group) == LARGEST_GROUP:
                    return group
                item = self._queue.get_nowait()
            if group:
                self._queue.put(None)  # the end, for the next round
        return group

    def _served(self, connection: sqlite3.Connection, group: list[_Waiting]) -> list[_Result]:
        if self._refusal is not None:
            return self._refused(group)
        try:
            return _transacted(connection, group)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # invalid UTF-8 in a text column is damage
            if not _is_of_the_step(error):
                self._refusal = (
                    f"the journal cannot be written ({printable(str(error))}): nothing more is sent without it. "
                    "Free or check the disk, then run again to continue"
                )
                return self._refused(group)
            failure: Exception = JournalError(f"the journal refused a step: {printable(str(error))}")
        except BaseException as error:  # noqa: BLE001 - it is raised in the step's caller
            failure = _deliverable(error)
        if len(group) == 1:
            return [_Result(group[0].future, error=failure)]
        # One step failed, and the rollback undid all: each gets a transaction of its own.
        return [result for waiting in group for result in self._served(connection, [waiting])]

    def _refused(self, group: list[_Waiting]) -> list[_Result]:
        refusal = self._refusal or "the journal is closed"
        return [_Result(waiting.future, error=JournalError(refusal)) for waiting in group]

    def _left_over(self) -> list[_Result]:
        left: list[_Waiting | None] = []
        with suppress(queue.Empty):
            while True:
                left.append(self._queue.get_nowait())
        return self._refused([waiting for waiting in left if waiting is not None])

    def _resolve(self, results: list[_Result]) -> None:
        with suppress(RuntimeError):  # the loop is closed, and with it every waiter
            self._loop.call_soon_threadsafe(_deliver, results)


def _transacted(connection: sqlite3.Connection, group: list[_Waiting]) -> list[_Result]:
    try:
        connection.execute("BEGIN IMMEDIATE")
        results = [_Result(waiting.future, waiting.step(connection)) for waiting in group]
        connection.execute("COMMIT")
    except BaseException:
        with suppress(sqlite3.Error):  # SQLite has often rolled back by itself
            connection.execute("ROLLBACK")
        raise
    return results


def _is_of_the_step(error: Exception) -> bool:
    """Return whether the step's values are at fault, not the file, the disk or the memory."""
    return isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError)


def _deliverable(error: BaseException) -> Exception:
    """Return the error, or another one if a future cannot hold it or it would end the caller's program."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return JournalError(f"a step of the journal ended with {type(error).__name__}")


def _deliver(results: list[_Result]) -> None:
    for result in results:
        if result.future.done():
            continue
        if result.error is None:
            result.future.set_result(result.value)
        else:
            result.future.set_exception(result.error)
