"""The journal as the rest of the package sees it: awaitable, durable on return.

Every method hands one operation to the writer's thread; what is encoded is encoded here, so that a record that
cannot be written is its caller's error and nobody else's. It knows nothing of requests, stores or retries.
"""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Self, TypeVar

from imagen_async.batch.journal import lock, queries, schema, soundness, transitions
from imagen_async.batch.journal.json_lines import json_line
from imagen_async.batch.journal.thread import Step, Writer
from imagen_async.exceptions import JournalError, printable
from imagen_async.stores.folders import make_root, sync_folder

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from pathlib import Path
    from types import TracebackType

    from imagen_async.batch.journal.values import Admission, Doubt, Entry, Failure, KeptImage, ListedDoubt, Totals

__all__ = ["Journal"]

T = TypeVar("T")

PAGE = 500
"""Rows that a list reads at a time."""

_ENDS = frozenset(schema.JOB_STATES) - {"intent"}


class Journal:
    """The durable memory of a batch; get one from `Journal.open`, and use it in that event loop only.

    What a method wrote is durable when it returns. A wait that is cancelled takes nothing back: the operation
    still happens.

    Attributes:
        abandoned: Jobs that were in flight when an earlier run died; each is a doubt now, and interrupted.

    Example:
        >>> import asyncio, pathlib, tempfile
        >>> from imagen_async.batch.journal import Admission
        >>> async def remember(folder: str) -> int:
        ...     async with await Journal.open(pathlib.Path(folder)) as journal:
        ...         [entry] = await journal.admit([Admission(bytes(16), id="fox")])
        ...         await journal.intent(entry, attempt=1, images=1, usd=0.04)
        ...         await journal.done(entry, status="succeeded", images=[(0, {"file_name": "fox-0.png"})], attempts=1)
        ...         return (await journal.counts()).jobs["succeeded"]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asyncio.run(remember(folder))
        1
    """

    def __init__(self, folder: Path, *, fsync: bool = True, clock: Callable[[], float] = time.time) -> None:
        self._folder = folder
        self._fsync = fsync
        self._clock = clock
        self._writer = Writer(self._session)
        self.abandoned = 0

    @classmethod
    async def open(cls, folder: Path, *, fsync: bool = True, clock: Callable[[], float] = time.time) -> Self:
        """Open the journal in `folder`, making both if need be, and take the folder for this run.

        Args:
            folder: Where ``journal.sqlite`` and its lock are.
            fsync: Whether every commit waits for the disk. Without it a power cut may take the last moments,
                a killed process still nothing.
            clock: Seconds since the epoch.

        Raises:
            JournalLockedError: Another run is using the folder.
            JournalError: The journal is damaged, foreign, newer than this version, or cannot be opened.
        """
        journal = cls(folder, fsync=fsync, clock=clock)
        await journal._writer.start()
        return journal

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Finish what is under way, fold the log into the file, release the folder; may be called again."""
        await self._writer.close()

    def __repr__(self) -> str:
        return f"Journal({printable(str(self._folder))!r})"

    @contextmanager
    def _session(self) -> Iterator[sqlite3.Connection]:
        """Hold the folder and the connection; in the writer's thread."""
        with schema.translated(self._folder, "the folder cannot be made"):
            make_root(str(self._folder), durable=self._fsync)
        path = self._folder / schema.JOURNAL_NAME
        with lock.held(self._folder):
            if not path.exists():
                schema.create(path)
            soundness.check(path)
            if self._fsync:
                # Also where it was there before: the run that made it may have been killed before it got here.
                with schema.translated(path, "its folder cannot be synced"):
                    sync_folder(self._folder)
            with closing(schema.connect(path, fsync=self._fsync)) as connection:
                with schema.translated(path, "it cannot be taken up"):
                    transitions.begin_run(connection)
                    connection.execute("BEGIN IMMEDIATE")
                    self.abandoned = transitions.abandon(connection, at=self._clock())
                    connection.execute("COMMIT")
                yield connection
                with suppress(sqlite3.Error):  # what is not folded in now is so at the next opening
                    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    async def perform(self, step: Step[T]) -> T:
        """Run `step` in the journal's thread, in a transaction; return what it returns once that is durable.

        For exports that belong to the journal's rows. `step` may run twice, if another operation fails.

        Raises:
            JournalError: The journal is closed or broke; whatever else `step` raises passes as it is.
        """
        return await self._writer.perform(step)

    async def admit(self, items: Sequence[Admission]) -> list[Entry]:
        """Look up the next jobs of the input, in its order; equals are numbered as they come.

        Nothing is written for a job before its intent. Call it in batches of some hundred.

        Raises:
            JournalError: A digest is not 16 bytes, or the journal broke.
        """
        return await self.perform(lambda connection: transitions.admit(connection, items))

    async def intent(
        self, entry: Entry, *, attempt: int, images: int, usd: float = 0.0, key: str | None = None
    ) -> None:
        """Make durable that a request for `entry` is about to be sent; call it before every attempt.

        Should the run die before it says more of this request, it is a doubt of so many images and dollars.

        Args:
            entry: As `admit` gave it in this run.
            attempt: Counted from 1 in each run.
            images: How many this request asks for; fewer than the job, if some have arrived already.
            usd: What they may cost, in US dollars by list price; 0 where the price is unknown.
            key: The request's ``Idempotency-Key``, for a run that sends it again.

        Raises:
            JournalError: The job has succeeded already, or the journal broke: send nothing.
        """
        step = partial(
            transitions.intent, entry=entry, attempt=attempt, images=images, usd=usd, key=key, at=self._clock()
        )
        await self.perform(step)

    async def never_sent(self, entry: Entry) -> None:
        """Take the last intent back: its request certainly cost nothing and no other is under way.

        For a request that was cancelled or failed before a byte of it left, or that the gateway refused unbilled
        when a wait follows. A job that was new is forgotten, another is again what it was; one with
        earlier attempts in this run is interrupted. Without an intent nothing happens.

        Raises:
            JournalError: The journal broke.
        """
        at = self._clock()
        await self.perform(lambda connection: transitions.never_sent(connection, entry, at=at))

    async def answered(self, entry: Entry) -> None:
        """Record that the last request was answered and that another one follows: until then the job is interrupted.

        Raises:
            JournalError: The journal broke.
        """
        at = self._clock()
        await self.perform(lambda connection: transitions.answered(connection, entry, at=at))

    async def doubt(self, entry: Entry, doubt: Doubt) -> None:
        """Record that an attempt may have been billed and did not bring all images; once for each attempt.

        Raises:
            JournalError: The journal broke.
        """
        await self.perform(lambda connection: transitions.doubt(connection, entry, (doubt,)))

    async def done(
        self,
        entry: Entry,
        *,
        status: str,
        images: Sequence[tuple[int, Mapping[str, Any]]] = (),
        attempts: int,
        error: Mapping[str, Any] | None = None,
        doubts: Sequence[Doubt] = (),
    ) -> None:
        """Record how a job ended, its images and its doubts, in one transaction.

        Args:
            entry: As `admit` gave it in this run.
            status: A value of `Status` other than ``skipped``, or `INTERRUPTED`.
            images: Index and metadata record of each image that is new; a record's ``bytes`` is counted. Images
                of earlier runs stay, and exactly the same image again changes nothing.
            attempts: Requests that this run sent for it.
            error: What ``errors.jsonl`` shall say: ``type``, ``message``, ``request_id``, ``prompt`` and more.
            doubts: Those of this run; ones that are recorded already change nothing.

        Raises:
            JournalError: The status or a record does not fit, the job has succeeded already, another image with
                the same index is there, or the journal broke.
        """
        if status not in _ENDS:
            raise JournalError(f"{status!r} is not an end of a job: use one of {', '.join(sorted(_ENDS))}")
        at = self._clock()
        lines = [(index, _size(record), json_line(record)) for index, record in images]
        told = None if error is None else json_line(error)

        def step(connection: sqlite3.Connection) -> None:
            transitions.done(connection, entry, status=status, images=lines, attempts=attempts, error=told, at=at)
            if doubts:
                transitions.doubt(connection, entry, doubts)

        await self.perform(step)

    async def adopt(self, entry: Entry, *, images: Sequence[tuple[int, Mapping[str, Any]]], missing: int = 0) -> None:
        """Record images by files that were found, which an earlier run did not live to record.

        The last request that was in doubt brought them, so that it is in doubt no more, or only for what is missing.
        Call it before the job's first intent in this run.

        Args:
            entry: As `admit` gave it in this run.
            images: Like those of `done`.
            missing: Images of the job that are neither recorded nor found; with none the job has succeeded.

        Raises:
            JournalError: As `done`, or images are missing and the job is new or under way.
        """
        at = self._clock()
        lines = [(index, _size(record), json_line(record)) for index, record in images]

        def step(connection: sqlite3.Connection) -> None:
            transitions.received(connection, entry, missing=missing)
            if missing:
                transitions.found(connection, entry, lines)
            else:
                transitions.done(connection, entry, status="succeeded", images=lines, attempts=0, error=None, at=at)

        await self.perform(step)

    async def counts(self) -> Totals:
        """Return the sums over the journal.

        Raises:
            JournalError: The journal broke.
        """
        return await self.perform(queries.totals)

    async def kept(self, entry: Entry) -> list[KeptImage]:
        """Return the images of a job that are recorded, by index.

        Raises:
            JournalError: The journal broke.
        """
        return await self.perform(lambda connection: queries.kept_images(connection, entry.key))

    async def withdrawn(self, entry: Entry) -> list[KeptImage]:
        """Return what was recorded once of a job and withdrawn.

        Raises:
            JournalError: The journal broke.
        """
        return await self.perform(lambda connection: queries.withdrawn_images(connection, entry.key))

    async def withdraw(self, images: Sequence[tuple[bytes, int]]) -> None:
        """Take images whose files are damaged out of the account, all or none; they stay counted as bought.

        A job that had succeeded is interrupted: the next `admit` gives it to be taken up. Exports are to be written
        anew. Call it before anything is in flight.

        Args:
            images: Key of the job and index of the image; what is not recorded is passed over.

        Raises:
            JournalError: The journal broke.
        """
        if images:
            at = self._clock()
            await self.perform(lambda connection: transitions.withdraw(connection, images, at=at))

    async def receipt(self) -> str | None:
        """Return the receipt that a run left, or None; a withdrawal has taken it back.

        Raises:
            JournalError: The journal broke.
        """
        return await self.perform(queries.receipt)

    async def leave_receipt(self, text: str) -> None:
        """Keep words for it that every job of some input has succeeded, instead of those that are there.

        Raises:
            JournalError: The journal broke.
        """
        await self.perform(lambda connection: transitions.set_receipt(connection, text))

    async def images_by_model(self) -> dict[str, int]:
        """Count the images that were ever bought by the ``model`` of their records; takes a second for a million.

        Raises:
            JournalError: The journal broke.
        """
        return await self.perform(queries.images_by_model)

    async def failure(self, key: bytes) -> Failure | None:
        """Return what is to be reported of the job with this key, or None if there is no such job.

        Raises:
            JournalError: The journal broke.
        """
        return await self.perform(partial(queries.failure, key=key))

    async def failures(self) -> AsyncIterator[Failure]:
        """Iterate over the jobs that ended, or were interrupted, without success; by line, a page in memory.

        Raises:
            JournalError: The journal broke.
        """
        last: Failure | None = None
        while page := await self.perform(partial(queries.failures_after, last=last, limit=PAGE)):
            for last in page:
                yield last

    async def doubts(self) -> AsyncIterator[ListedDoubt]:
        """Iterate over every request that may have been billed for nothing, oldest first; a page in memory.

        Raises:
            JournalError: The journal broke.
        """
        last = 0
        while page := await self.perform(partial(queries.doubts_after, last=last, limit=PAGE)):
            for _, doubt in page:
                yield doubt
            last = page[-1][0]


def _size(record: Mapping[str, Any]) -> int:
    size = record.get("bytes")
    return size if isinstance(size, int) else 0
