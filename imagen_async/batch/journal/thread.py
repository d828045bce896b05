"""The one thread that owns the journal's connection, and group commit.

Operations that wait are run together in one transaction and acknowledged together after its commit, so that a
hundred waiters share one flush of the disk. The rules it keeps: nothing is acknowledged before it is durable;
an operation that fails takes no other with it; after a failed commit or a broken file nothing is accepted any
more. What an operation does it does not know.
"""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import Any, TypeAlias, TypeVar

import attrs

from imagen_async._cancellation import ended
from imagen_async.exceptions import JournalError, printable

__all__ = ["Step", "Writer"]

T = TypeVar("T")
Step: TypeAlias = Callable[[sqlite3.Connection], T]
"""A synchronous operation inside a transaction; it may be run again after a rollback."""

LARGEST_GROUP = 1024
"""Operations after which no more are taken into a group, so that a commit's first waiter is not the last served."""


@attrs.frozen(eq=False)
class _Waiting:
    step: Step[Any]
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
        # A daemon: a program that forgets to close must still be able to end; the file stands a kill at any time.
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
            # Cancelled while opening, or refused: in both cases the folder is free when we say so.
            self._opened.add_done_callback(_seen)
            await self.close()
            raise

    async def perform(self, step: Step[T]) -> T:
        """Run `step` in the thread; return what it returns, once that is durable.

        A cancelled wait does not take the step back.

        Raises:
            JournalError: The journal is closed, or broke; whatever else the step raised passes as it is.
        """
        if self._refusal is not None or self._closing:
            raise JournalError(self._refusal or "the journal is closed")
        future: asyncio.Future[T] = self._loop.create_future()
        self._queue.put(_Waiting(step, future))
        return await future

    async def close(self) -> None:
        """Finish what waits, close the connection and end the thread; a second call waits for the first.

        A cancellation arrives only when that is done.
        """
        self._stop()
        cancelled = await ended(self._ended)
        self._thread.join()
        if cancelled is not None:
            raise cancelled

    def _stop(self) -> None:
        if not self._closing:
            self._closing = True
            self._queue.put(None)

    # --- in the thread ---

    def _run(self) -> None:
        try:
            with self._session() as connection:
                self._resolve([_Result(self._opened)])
                self._serve(connection)
        except BaseException as error:  # noqa: BLE001 - whatever it is, somebody awaits it and a thread has no caller
            self._refusal = self._refusal or f"the journal stopped: {printable(str(error))}"
            self._resolve([_Result(self._opened, error=error)])
        self._resolve([*self._left_over(), _Result(self._ended)])

    def _serve(self, connection: sqlite3.Connection) -> None:
        while group := self._next_group():
            if self._refusal is None:
                self._resolve(self._committed(connection, group))
            else:
                self._resolve(self._refused(group))

    def _next_group(self) -> list[_Waiting]:
        """Wait for an operation, then take those that wait with it; empty at the end."""
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

    def _committed(self, connection: sqlite3.Connection, group: list[_Waiting]) -> list[_Result]:
        try:
            return _transacted(connection, group)
        except (sqlite3.DatabaseError, UnicodeDecodeError) as error:  # text that is none is damaged
            if not _is_of_the_operation(error):
                self._refusal = (
                    f"the journal cannot be written ({printable(str(error))}): nothing more is sent without it. "
                    "Free or check the disk, then run again to go on"
                )
                return self._refused(group)
            failure: Exception = JournalError(f"the journal refused an operation: {printable(str(error))}")
        except BaseException as error:  # noqa: BLE001 - it belongs to the operation's caller, not to this thread
            failure = _deliverable(error)
        if len(group) == 1:
            return [_Result(group[0].future, error=failure)]
        # One of them is to blame, and the rollback took all: each gets a transaction of its own.
        return [result for waiting in group for result in self._again(connection, waiting)]

    def _again(self, connection: sqlite3.Connection, waiting: _Waiting) -> list[_Result]:
        alone = [waiting]
        return self._committed(connection, alone) if self._refusal is None else self._refused(alone)

    def _refused(self, group: list[_Waiting]) -> list[_Result]:
        refusal = self._refusal or "the journal is closed"
        return [_Result(waiting.future, error=JournalError(refusal)) for waiting in group]

    def _left_over(self) -> list[_Result]:
        results: list[_Result] = []
        with suppress(queue.Empty):
            while True:
                if (waiting := self._queue.get_nowait()) is not None:
                    results += self._refused([waiting])
        return results

    def _resolve(self, results: list[_Result]) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
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


def _is_of_the_operation(error: Exception) -> bool:
    """Whether the values are at fault, not the file, the disk or the memory."""
    return isinstance(error, sqlite3.IntegrityError | sqlite3.DataError | sqlite3.ProgrammingError)


def _deliverable(error: BaseException) -> Exception:
    """Return the error as it is, unless a future cannot carry it or it would end the caller's program."""
    if isinstance(error, Exception) and not isinstance(error, StopIteration):
        return error
    return JournalError(f"an operation of the journal ended with {type(error).__name__}")


def _deliver(results: list[_Result]) -> None:
    for result in results:
        if result.future.done():
            continue
        if result.error is None:
            result.future.set_result(result.value)
        else:
            result.future.set_exception(result.error)


def _seen(future: asyncio.Future[None]) -> None:
    if not future.cancelled():
        future.exception()
