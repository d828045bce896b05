"""The text files beside the images: ``metadata.jsonl``, ``errors.jsonl`` and ``invalid.jsonl``.

The first two are copies of the journal, written in its thread. ``metadata.jsonl`` has each image exactly once, however
often the process was killed: it is cut to the length that the journal has recorded, and continued. ``errors.jsonl``
grows during a run, and is rewritten at its start and end. Every method raises `StoreError` if a file is a link or
cannot be written, and `JournalError` if the journal broke.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from imagen_async.batch.folder import ERRORS_NAME, INVALID_NAME, METADATA_NAME, opened, translated
from imagen_async.batch.journal import Doubt, Failure, Journal, json_line, queries, transitions
from imagen_async.exceptions import StoreError, printable
from imagen_async.outcome import Status
from imagen_async.stores.folders import sync_folder

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path
    from typing import BinaryIO

    from imagen_async.batch.sources.rows import BadRow

__all__ = ["ErrorsFile", "InvalidFile", "MetadataFile", "error_line"]

_NEW = os.O_CREAT | os.O_EXCL


class MetadataFile:
    """``metadata.jsonl``: one line for each recorded image, in the order in which they arrived.

    Args:
        journal: The journal with the images.
        folder: The output folder; it exists.
        fsync: Whether lines survive a loss of power once `flush` has returned.
    """

    def __init__(self, journal: Journal, folder: Path, *, fsync: bool = True) -> None:
        self._journal = journal
        self._path = folder / METADATA_NAME
        self._fsync = fsync

    async def flush(self) -> int:
        """Bring the file up to date with the journal; return how many lines were added.

        It repairs a file that a killed run or a failed flush left, and refuses one of another journal.
        """
        # Two transactions: the position that `_prepare` sets must be durable before the file changes.
        await self._journal.perform(self._prepare)
        return await self._journal.perform(self._append)

    def _prepare(self, connection: sqlite3.Connection) -> None:
        position = queries.position(connection, METADATA_NAME)
        if position is None:
            self._refuse_foreign()
        if position is None or not self._matches(connection, *position):
            transitions.set_position(connection, METADATA_NAME, seq=0, offset=0)

    def _refuse_foreign(self) -> None:
        with translated(self._path):
            if os.path.lexists(self._path) and (self._path.is_symlink() or self._path.stat().st_size > 0):
                raise StoreError(
                    f"{printable(str(self._path))} is not from this journal: move it away, or use another folder",
                    path=str(self._path),
                )

    def _matches(self, connection: sqlite3.Connection, seq: int, offset: int) -> bool:
        """Return whether the file is at least as long as recorded, and its last recorded line the right one."""
        line = queries.image_line(connection, seq)
        if offset == 0 or line is None:
            return offset == 0
        with translated(self._path):
            if not os.path.lexists(self._path):
                return False
            with opened(self._path) as file:
                expected = f"{line}\n".encode()
                file.seek(max(offset - len(expected), 0))
                return file.read(len(expected)) == expected

    def _append(self, connection: sqlite3.Connection) -> int:
        seq, offset = queries.position(connection, METADATA_NAME) or (0, 0)
        with closing(queries.image_lines_after(connection, seq)) as lines, translated(self._path):
            first = list(islice(lines, 1))
            created = not os.path.lexists(self._path)
            if created and not first:
                return 0
            count = 0
            with opened(self._path, os.O_CREAT) as file:
                if os.fstat(file.fileno()).st_size != offset:
                    file.truncate(offset)  # unrecorded lines, or half of one
                file.seek(offset)
                for number, line in chain(first, lines):
                    file.write(f"{line}\n".encode())
                    seq, count = number, count + 1
                offset = file.tell()
                if count and self._fsync:
                    _sync(file)
            if created and self._fsync:
                sync_folder(self._path.parent)
        if count:
            transitions.set_position(connection, METADATA_NAME, seq=seq, offset=offset)
        return count


class ErrorsFile:
    """``errors.jsonl``: one line for each `Failure`; no file when there is none.

    Args:
        journal: The journal with the jobs.
        folder: The output folder; it exists.
        fsync: Whether a rewritten file survives a loss of power.
    """

    def __init__(self, journal: Journal, folder: Path, *, fsync: bool = True) -> None:
        self._journal = journal
        self._path = folder / ERRORS_NAME
        self._fsync = fsync

    async def append(self, key: bytes) -> None:
        """Add the line of a job whose end has been recorded."""
        await self._journal.perform(self._append, key)

    async def rewrite(self) -> int:
        """Replace the file by a new one, in one step for its readers; return how many lines it has."""
        return await self._journal.perform(self._rewrite)

    def _append(self, connection: sqlite3.Connection, key: bytes) -> None:
        failure = queries.failure(connection, key)
        if failure is None:
            return
        with translated(self._path), opened(self._path, os.O_CREAT | os.O_APPEND) as file:
            file.write(f"{error_line(failure)}\n".encode())

    def _rewrite(self, connection: sqlite3.Connection) -> int:
        fresh = self._path.with_name(f".{ERRORS_NAME}.new")
        with translated(self._path):
            fresh.unlink(missing_ok=True)  # left by a run that was killed here
            count = 0
            try:
                with closing(queries.failures(connection)) as failures, opened(fresh, _NEW) as file:
                    for failure in failures:
                        file.write(f"{error_line(failure)}\n".encode())
                        count += 1
                    if self._fsync:
                        _sync(file)
                if count:
                    fresh.replace(self._path)
                else:
                    self._path.unlink(missing_ok=True)
            finally:
                fresh.unlink(missing_ok=True)
            if self._fsync:
                sync_folder(self._path.parent)
        return count


class InvalidFile:
    """``invalid.jsonl``: the invalid rows that a run skipped, each with all of its mistakes.

    Args:
        folder: The output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / INVALID_NAME

    def clear(self) -> None:
        """Remove the list of an earlier run."""
        with translated(self._path):
            self._path.unlink(missing_ok=True)

    def add(self, row: BadRow) -> None:
        """Add a row."""
        with translated(self._path), opened(self._path, os.O_CREAT | os.O_APPEND) as file:
            file.write(f"{json.dumps({'line': row.line, 'problems': row.problems})}\n".encode())


def error_line(failure: Failure) -> str:
    """Return a failure as its line of ``errors.jsonl``, without the newline.

    The keys have one order: ``id``, ``line``, ``status``, ``prompt``, ``error`` (its type), ``message``,
    ``request_id``, ``attempts``, ``at``, then the others of the job's error record, then ``doubts``. A job that
    succeeded is listed only for its requests in doubt, with the status ``in_doubt``.

    Example:
        >>> failed = Failure(id="fox", line=3, status="failed", attempts=1, at=0.5, error=None, doubts=())
        >>> error_line(failed)
        '{"id": "fox", "line": 3, "status": "failed", "attempts": 1, "at": 0.5}'
    """
    error = dict(failure.error or {})
    status, message = failure.status, error.pop("message", None)
    if status == Status.SUCCEEDED:
        status = Status.IN_DOUBT.value
        message = "the job succeeded, but earlier requests of it are in doubt: they may have been billed"
    known: dict[str, Any] = {
        "prompt": error.pop("prompt", None),
        "error": error.pop("type", None),
        "message": message,
        "request_id": error.pop("request_id", None),
    }
    record: dict[str, Any] = {"id": failure.id, "line": failure.line, "status": status}
    record |= {name: value for name, value in known.items() if value is not None}
    record |= {"attempts": failure.attempts, "at": failure.at}
    record |= {name: value for name, value in error.items() if name not in record}
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


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())
