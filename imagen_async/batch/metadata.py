"""The two text files beside the images: what arrived (``metadata.jsonl``) and what did not (``errors.jsonl``).

The rule they keep: the journal is the truth and the files are copies of it. ``metadata.jsonl`` has each image
exactly once, however often the process was killed: it is cut back to the length that the journal vouches for,
then continued. ``errors.jsonl`` grows while a run goes on and is written anew at its start and end. All of it
happens in the journal's thread, and no list is ever held in memory. Which images are recorded is not decided here.
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

from imagen_async.batch.folder import ERRORS_NAME, METADATA_NAME, opened, translated, write
from imagen_async.batch.journal import Doubt, Failure, Journal, json_line, queries, transitions
from imagen_async.exceptions import StoreError, printable
from imagen_async.outcome import Status
from imagen_async.stores.folders import sync_folder

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["ErrorsFile", "MetadataFile", "error_line"]

CHUNK_BYTES = 1 << 20
PAGE = 500


class MetadataFile:
    """``metadata.jsonl``: one line for each image that the journal has, in the order of their arrival.

    Args:
        journal: Whose images.
        folder: Where the file goes; it exists.
        fsync: Whether lines survive a power cut once `flush` has returned.
    """

    def __init__(self, journal: Journal, folder: Path, *, fsync: bool = True) -> None:
        self._journal = journal
        self._path = folder / METADATA_NAME
        self._fsync = fsync

    async def flush(self) -> int:
        """Bring the file up to date with the journal; return how many lines were added.

        Call it at the start of a run (it repairs what a dead run left), now and then, and at the end.

        Raises:
            StoreError: The file is a link or not this journal's, or the disk failed; the next flush repairs it.
            JournalError: The journal broke.
        """
        # Two transactions: what `_prepare` claims or resets must be durable before the file changes.
        await self._journal.perform(self._prepare)
        return await self._journal.perform(self._append)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        position = queries.position(connection, METADATA_NAME)
        if position is None:
            self._refuse_foreign()
        if position is None or not self._vouches(connection, *position):
            transitions.set_position(connection, METADATA_NAME, seq=0, offset=0)

    def _refuse_foreign(self) -> None:
        with translated(self._path):
            if os.path.lexists(self._path) and (self._path.is_symlink() or self._path.stat().st_size > 0):
                raise StoreError(
                    f"{printable(str(self._path))} is there, but not from this journal: move it away, "
                    "or use another folder",
                    path=str(self._path),
                )

    def _vouches(self, connection: sqlite3.Connection, seq: int, offset: int) -> bool:
        """Whether the file holds what the journal believes: long enough, and its last line the right one."""
        line = queries.image_line(connection, seq)
        if offset == 0 or line is None:
            return offset == 0
        with translated(self._path):
            if not os.path.lexists(self._path):
                return False
            with opened(self._path) as descriptor:
                expected = f"{line}\n".encode()
                os.lseek(descriptor, max(offset - len(expected), 0), os.SEEK_SET)
                return _read(descriptor, len(expected)) == expected

    def _append(self, connection: sqlite3.Connection) -> int:
        seq, offset = queries.position(connection, METADATA_NAME) or (0, 0)
        with closing(queries.image_lines_after(connection, seq)) as lines:
            first = next(lines, None)
            if first is None and not os.path.lexists(self._path):
                return 0
            added, last, written = self._continue(offset, first, lines)
        if added:
            transitions.set_position(connection, METADATA_NAME, seq=last, offset=offset + written)
        return added

    def _continue(
        self, offset: int, first: tuple[int, str] | None, others: Iterator[tuple[int, str]]
    ) -> tuple[int, int, int]:
        with translated(self._path):
            created = not os.path.lexists(self._path)
            with opened(self._path, os.O_CREAT) as descriptor:
                if os.fstat(descriptor).st_size != offset:
                    os.ftruncate(descriptor, offset)  # lines that the journal does not vouch for, or half of one
                os.lseek(descriptor, offset, os.SEEK_SET)
                written = _write_lines(descriptor, first, others)
                if first is not None and self._fsync:
                    os.fsync(descriptor)
            if created and self._fsync:
                sync_folder(self._path.parent)
        return written


class ErrorsFile:
    """``errors.jsonl``: one line for each job that has something to report; no file when none has.

    Args:
        journal: Whose jobs.
        folder: Where the file goes; it exists.
        fsync: Whether a rewritten file survives a power cut.
    """

    def __init__(self, journal: Journal, folder: Path, *, fsync: bool = True) -> None:
        self._journal = journal
        self._path = folder / ERRORS_NAME
        self._fsync = fsync

    async def append(self, key: bytes) -> None:
        """Add the line of a job that just ended, for whoever watches the file; after its `Journal.done`.

        Raises:
            StoreError: The file is a link, or the disk failed.
            JournalError: The journal broke.
        """
        await self._journal.perform(self._append, key)

    async def rewrite(self) -> int:
        """Write the file anew from the journal, in one step for those who read it; return its lines.

        Call it at the start and at the end of a run: what succeeded meanwhile is no longer there.

        Raises:
            StoreError: The disk failed; the file is as it was.
            JournalError: The journal broke.
        """
        return await self._journal.perform(self._rewrite)

    def _append(self, connection: sqlite3.Connection, key: bytes) -> None:
        failure = queries.failure(connection, key)
        if failure is None:
            return
        with translated(self._path), opened(self._path, os.O_CREAT | os.O_APPEND) as descriptor:
            write(descriptor, f"{error_line(failure)}\n".encode())

    def _rewrite(self, connection: sqlite3.Connection) -> int:
        fresh = self._path.with_name(f".{ERRORS_NAME}.new")
        with translated(self._path):
            fresh.unlink(missing_ok=True)  # of a run that was killed right here
            try:
                lines = enumerate((error_line(failure) for failure in _reported(connection)), 1)
                with opened(fresh, os.O_CREAT | os.O_EXCL) as descriptor:
                    count, *_ = _write_lines(descriptor, next(lines, None), lines)
                    if self._fsync:
                        os.fsync(descriptor)
                if count:
                    fresh.replace(self._path)
                else:
                    self._path.unlink(missing_ok=True)
            finally:
                fresh.unlink(missing_ok=True)
            if self._fsync:
                sync_folder(self._path.parent)
        return count


def error_line(failure: Failure) -> str:
    """Write a failure as its line of ``errors.jsonl``, without the newline.

    The keys come in one order: ``id``, ``line``, ``status``, ``prompt``, ``error`` (its type), ``message``,
    ``request_id``, ``attempts``, ``at``, then what else the job's error record holds, then ``doubts``. A job
    that succeeded in the end is here only for its doubts, with the status ``in_doubt``.

    Example:
        >>> failed = Failure(key=b"", id="fox", line=3, status="failed", attempts=1, at=0.5, error=None, doubts=())
        >>> error_line(failed)
        '{"id": "fox", "line": 3, "status": "failed", "attempts": 1, "at": 0.5}'
    """
    told = dict(failure.error or {})
    status, message = failure.status, told.pop("message", None)
    if status == Status.SUCCEEDED:
        status = Status.IN_DOUBT.value
        message = "the job succeeded, but earlier requests of it may have been billed for nothing"
    known: dict[str, Any] = {
        "prompt": told.pop("prompt", None),
        "error": told.pop("type", None),
        "message": message,
        "request_id": told.pop("request_id", None),
    }
    record: dict[str, Any] = {"id": failure.id, "line": failure.line, "status": status}
    record |= {name: value for name, value in known.items() if value is not None}
    record |= {"attempts": failure.attempts, "at": failure.at}
    record |= {name: value for name, value in told.items() if name not in record}
    if failure.doubts:
        record["doubts"] = [_doubt_record(doubt) for doubt in failure.doubts]
    return json_line(record)


def _doubt_record(doubt: Doubt) -> dict[str, Any]:
    return {
        "attempt": doubt.attempt,
        "at": doubt.at,
        "request_id": doubt.request_id,
        "images": doubt.images,
        "usd": round(doubt.usd, 6),
        "message": doubt.reason,
    }


def _reported(connection: sqlite3.Connection) -> Iterator[Failure]:
    for after in (queries.failures_after, queries.troubled_after):
        last: Failure | None = None
        while page := after(connection, last, PAGE):
            yield from page
            last = page[-1]


def _write_lines(
    descriptor: int, first: tuple[int, str] | None, others: Iterator[tuple[int, str]]
) -> tuple[int, int, int]:
    """Write numbered lines, a chunk at a time; return how many, the last one's number, and their bytes."""
    count = last = written = 0
    chunk = bytearray()
    item = first
    while item is not None:
        last, line = item
        chunk += f"{line}\n".encode()
        count += 1
        item = next(others, None)
        if item is None or len(chunk) >= CHUNK_BYTES:
            write(descriptor, chunk)
            written += len(chunk)
            chunk.clear()
    return count, last, written


def _read(descriptor: int, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data
