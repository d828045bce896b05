"""One run at a time in a folder.

A tiny SQLite file beside the journal is held in an exclusive transaction for as long as the run lasts. The
system releases it with the process, however that ends, so there is no stale lock to remove; and the journal
itself stays open to readers. It knows nothing of the journal.
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

# Long enough for a `folder_in_use` of another process to let go, short enough to count as at once.
_PATIENCE_S = 0.2


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Hold the folder's lock.

    Raises:
        JournalLockedError: Another run holds it, in this process or another.
        JournalError: The folder cannot be written.
    """
    path = folder / LOCK_NAME
    with translated(path, "the folder cannot be locked"):
        connection = sqlite3.connect(path, timeout=_PATIENCE_S, isolation_level=None)
    with closing(connection):
        with translated(path, "the folder cannot be locked"):
            try:
                connection.execute("BEGIN EXCLUSIVE")
                # A file that cannot be opened for writing is opened for reading, and then nothing is exclusive.
                connection.execute("PRAGMA user_version = 1")
            except sqlite3.OperationalError as error:
                if not _is_busy(error):
                    raise
                raise JournalLockedError(
                    f"another run is using {printable(str(folder))}: wait until it ends or stop it, then run again"
                ) from None
        yield


def folder_in_use(folder: Path) -> bool:
    """Whether a run holds the folder's lock right now.

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
