"""The journal of a run: opened under the folder's lock, checked, and written by a thread of its own.

`transitions` are the steps that record, `queries` the steps that read; `Journal.perform` runs both.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Self

from imagen_async.batch.journal import admission, lock, schema, soundness, transitions
from imagen_async.batch.journal.thread import Writer
from imagen_async.exceptions import printable
from imagen_async.stores.folders import make_root, sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from types import TracebackType

__all__ = ["Journal"]


class Journal(Writer):
    """The durable memory of a batch; get one from `Journal.open`, and use it in that event loop only.

    A step is durable when `perform` returns. Cancelling the wait does not undo it.

    Attributes:
        abandoned: Jobs that were in flight when an earlier run died; each is in doubt and interrupted now.

    Example:
        >>> import asyncio, pathlib, tempfile
        >>> from imagen_async.batch.journal import Admission, admission, queries
        >>> async def remember(folder: str) -> int:
        ...     async with await Journal.open(pathlib.Path(folder)) as journal:
        ...         [entry] = await journal.perform(admission.admit, [Admission(bytes(16), id="fox")])
        ...         await journal.perform(transitions.intent, entry, attempt=1, images=1, usd=0.04)
        ...         images = [(0, {"file_name": "fox-0.png"})]
        ...         await journal.perform(transitions.done, entry, status="succeeded", images=images, attempts=1)
        ...         return (await journal.perform(queries.totals)).jobs["succeeded"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asyncio.run(remember(folder))
        1
    """

    def __init__(self, folder: Path, *, fsync: bool = True, clock: Callable[[], float] = time.time) -> None:
        super().__init__(self.session)
        self._folder = folder
        self._fsync = fsync
        self._clock = clock
        self.abandoned = 0

    @classmethod
    async def open(cls, folder: Path, *, fsync: bool = True, clock: Callable[[], float] = time.time) -> Self:
        """Open the journal in `folder` and lock the folder for this run; make both if they do not exist.

        Args:
            folder: Where ``journal.sqlite`` and its lock are.
            fsync: Whether every commit waits for the disk. Without it a loss of power may lose the last moments; a
                killed process loses nothing.
            clock: Seconds since the epoch.

        Raises:
            JournalLockedError: Another run is using the folder.
            JournalError: The journal is damaged, foreign, newer than this version, or cannot be opened.
        """
        journal = cls(folder, fsync=fsync, clock=clock)
        await journal.start()
        return journal

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"Journal({printable(str(self._folder))!r})"

    @contextmanager
    def session(self) -> Iterator[sqlite3.Connection]:
        """Hold the folder and the connection; in the journal's thread."""
        with schema.translated(self._folder, "the folder cannot be made"):
            make_root(str(self._folder), durable=self._fsync)
        path = self._folder / schema.JOURNAL_NAME
        with lock.held(self._folder):
            if not path.exists():
                schema.create(path)
            soundness.check(path)
            if self._fsync:
                # For an existing file as well: the run that made it may have been killed before this.
                with schema.translated(path, "its folder cannot be synced"):
                    sync_folder(self._folder)
            with closing(schema.connect(path, fsync=self._fsync)) as connection:
                with schema.translated(path, "it cannot be resumed"):
                    connection.create_function("now", 0, self._clock)
                    admission.begin_run(connection)
                    connection.execute("BEGIN IMMEDIATE")
                    self.abandoned = transitions.abandon(connection)
                    connection.execute("COMMIT")
                yield connection
                with suppress(sqlite3.Error):  # otherwise the next opening folds the log into the file
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
