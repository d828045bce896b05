"""One run at a time in a folder.

A small SQLite file beside the journal is held in an exclusive transaction during the run. The system releases it when
the process ends, so that no stale lock remains. The journal itself stays open to readers.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from imagen_async.batch.journal.schema import translated
from imagen_async.exceptions import JournalLockedError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["LOCK_NAME", "folder_in_use", "held"]

LOCK_NAME = "lock.sqlite"

# Long enough for a `folder_in_use` of another process to end.
_TIMEOUT_S = 0.2


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder's lock.

    Raises:
        JournalLockedError: Another run holds it, in this process or another.
        JournalError: The folder cannot be written.
    """
    path = folder / LOCK_NAME
    with translated(path, "the folder cannot be locked"):
        connection = sqlite3.connect(path, timeout=_TIMEOUT_S, isolation_level=None)
    with closing(connection):
        with translated(path, "the folder cannot be locked"):
            try:
                connection.execute("BEGIN EXCLUSIVE")
                # SQLite opens a read-only file for reading, without an exclusive lock: only a write shows that.
                connection.execute("PRAGMA user_version = 1")
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                raise JournalLockedError(
                    f"another run is using {printable(str(folder))}: wait until it ends or stop it, then run again"
                ) from None
        yield


def folder_in_use(folder: Path) -> bool:
    """Return whether a run holds the folder's lock.

    Raises:
        JournalError: The lock's file is damaged.
    """
    path = folder / LOCK_NAME
    if not path.exists():
        return False
    uri = f"{path.absolute().as_uri()}?mode=ro"
    with translated(path, "the lock cannot be read"), closing(sqlite3.connect(uri, uri=True, timeout=0)) as connection:
        try:
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.OperationalError as error:
            if not _is_busy(error):
                raise
            return True
    return False


def _is_busy(error: sqlite3.Error) -> bool:
    return error.sqlite_errorcode & 0xFF in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}
