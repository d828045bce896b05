"""The journal's file: its tables, its creation, and how it is opened.

A journal appears under its name complete or not at all. A file that is not a journal, or comes from an unknown version,
is refused and never written to; `soundness` checks one for damage.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

from imagen_async.batch.journal.values import INTENT, INTERRUPTED
from imagen_async.exceptions import JournalError, printable
from imagen_async.outcome import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["JOB_STATES", "JOURNAL_NAME", "connect", "create", "has_log", "open_for_reading", "refusal", "translated"]

JOURNAL_NAME = "journal.sqlite"
APPLICATION_ID = 0x494D4A4C
"""``IMJL``: tells our files from all other SQLite files."""
VERSION = 3
OLDEST_VERSION = 2
"""The oldest format that is read; a run brings it up to `VERSION` before anything else."""
OLDEST_SQLITE = (3, 37)
"""The first SQLite with STRICT tables and RETURNING."""

_LOG_PAGES = 4_000
"""Pages of 4 KiB that the log holds before they go into the file.

All of them have to fit into SQLite's own cache: keys are random, so that most pages of their index are soon in the log,
and reading a page from there is slow. Half as large a cache made a job twice as expensive.
"""

_IMMUTABLE = "mode=ro&immutable=1"

JOB_STATES = (INTENT, INTERRUPTED, *(status.value for status in Status if status is not Status.SKIPPED))


def _moved(change: str) -> str:
    """Return the SQL that changes the count of each state in ``totals``; ``{}`` in `change` stands for the state."""
    return ",\n        ".join(f"{state} = {state} {change.replace('{}', state)}" for state in JOB_STATES)


# Triggers keep the counters, so that a rollback cannot separate them from the rows. Other tables refer to a job by
# number: keys are random, so that each index over them dirties a page for each row.
_SCHEMA = f"""
BEGIN;

CREATE TABLE jobs (
    job INTEGER PRIMARY KEY,
    key BLOB NOT NULL UNIQUE,
    stem TEXT,                  -- NULL: the hex of the key
    id TEXT,
    line INTEGER NOT NULL,
    n INTEGER NOT NULL,
    status TEXT NOT NULL
        CHECK (status IN {JOB_STATES}),
    before TEXT,                -- while in intent: the state to go back to if the request is never sent
    asked_images INTEGER NOT NULL DEFAULT 0 CHECK (asked_images >= 0),  -- while in intent: what the request asks for
    asked_usd REAL NOT NULL DEFAULT 0 CHECK (asked_usd >= 0),           -- and what that may cost
    images INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL,
    updated REAL NOT NULL,
    error TEXT,
    asked_key TEXT,                       -- Idempotency-Key of the last request, until it has been answered
    in_doubt INTEGER NOT NULL DEFAULT 0   -- requests in doubt since the job last succeeded
) STRICT;
CREATE UNIQUE INDEX jobs_stem ON jobs (stem) WHERE stem IS NOT NULL;
CREATE INDEX jobs_in_flight ON jobs (status) WHERE status = 'intent';
CREATE INDEX jobs_failed ON jobs (line, key) WHERE status NOT IN ('intent', 'succeeded');

CREATE TABLE images (
    seq INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    bytes INTEGER NOT NULL,
    record TEXT NOT NULL,
    UNIQUE (job, idx)
) STRICT;

CREATE TABLE withdrawn (  -- images whose files were damaged: not recorded any more, but bought
    seq INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    idx INTEGER NOT NULL,
    at REAL NOT NULL,
    record TEXT NOT NULL
) STRICT;
CREATE INDEX withdrawn_of_job ON withdrawn (job, idx);

CREATE TABLE doubts (
    seq INTEGER PRIMARY KEY,
    job INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at REAL NOT NULL,
    request_id TEXT,
    reason TEXT NOT NULL,
    images INTEGER NOT NULL CHECK (images >= 0),
    usd REAL NOT NULL CHECK (usd >= 0),
    UNIQUE (job, attempt)
) STRICT;

CREATE TABLE exports (
    name TEXT NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL,
    offset INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE totals (  -- one row
    {", ".join(f"{state} INTEGER NOT NULL DEFAULT 0" for state in JOB_STATES)},
    images INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    doubts INTEGER NOT NULL DEFAULT 0,
    doubtful_images INTEGER NOT NULL DEFAULT 0,
    doubtful_usd REAL NOT NULL DEFAULT 0  -- rounded, so that sums return to 0
) STRICT;
INSERT INTO totals DEFAULT VALUES;

CREATE TABLE meta (name TEXT NOT NULL PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO meta VALUES ('created', strftime('%Y-%m-%dT%H:%M:%SZ', 'now'));

CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
    UPDATE totals SET attempts = attempts + NEW.attempts,
        {_moved("+ (NEW.status = '{}')")};
END;
CREATE TRIGGER job_moved AFTER UPDATE OF status, attempts ON jobs BEGIN
    UPDATE totals SET attempts = attempts + NEW.attempts - OLD.attempts,
        {_moved("+ (NEW.status = '{}') - (OLD.status = '{}')")};
END;
CREATE TRIGGER job_withdrawn AFTER DELETE ON jobs BEGIN
    UPDATE totals SET attempts = attempts - OLD.attempts,
        {_moved("- (OLD.status = '{}')")};
END;
CREATE TRIGGER image_added AFTER INSERT ON images BEGIN
    UPDATE jobs SET images = images + 1 WHERE job = NEW.job;
    UPDATE totals SET images = images + 1, bytes = bytes + NEW.bytes;
END;
CREATE TRIGGER image_withdrawn AFTER DELETE ON images BEGIN
    UPDATE jobs SET images = images - 1 WHERE job = OLD.job;
    UPDATE totals SET images = images - 1, bytes = bytes - OLD.bytes;
END;
CREATE TRIGGER doubt_lowered AFTER UPDATE OF images, usd ON doubts BEGIN
    UPDATE totals SET
        doubtful_images = doubtful_images + NEW.images - OLD.images,
        doubtful_usd = round(doubtful_usd + NEW.usd - OLD.usd, 9);
END;
"""  # noqa: S608 - no value from outside

_DOUBT_COUNTERS = """
CREATE TRIGGER doubt_added AFTER INSERT ON doubts BEGIN
    UPDATE jobs SET in_doubt = in_doubt + 1 WHERE job = NEW.job;
    UPDATE totals SET
        doubts = doubts + 1,
        doubtful_images = doubtful_images + NEW.images,
        doubtful_usd = round(doubtful_usd + NEW.usd, 9);
END;
CREATE TRIGGER doubt_withdrawn AFTER DELETE ON doubts BEGIN
    UPDATE jobs SET in_doubt = max(in_doubt - 1, 0) WHERE job = OLD.job;
    UPDATE totals SET
        doubts = doubts - 1,
        doubtful_images = doubtful_images - OLD.images,
        doubtful_usd = round(doubtful_usd - OLD.usd, 9);
END;
"""

# Version 2 did not count requests in doubt by job. Those of a job with withdrawn images may predate its success.
_FROM_VERSION_2 = f"""
BEGIN IMMEDIATE;
ALTER TABLE jobs ADD COLUMN asked_key TEXT;
ALTER TABLE jobs ADD COLUMN in_doubt INTEGER NOT NULL DEFAULT 0;
DROP TRIGGER doubt_added;
DROP TRIGGER doubt_withdrawn;
{_DOUBT_COUNTERS}
UPDATE jobs SET in_doubt = (SELECT count(*) FROM doubts WHERE doubts.job = jobs.job)
WHERE status <> 'succeeded' AND job IN (SELECT job FROM doubts) AND job NOT IN (SELECT job FROM withdrawn);
PRAGMA user_version = {VERSION};
COMMIT;
"""  # noqa: S608 - no value from outside


@contextmanager
def translated(path: Path, what: str) -> Iterator[None]:
    """Turn SQLite's and the system's errors into a `JournalError` that names the file."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError, OSError) as error:  # SQLite's message may quote damaged bytes
        raise refusal(path, f"{what}: {printable(str(error))}") from error


def create(path: Path) -> None:
    """Make an empty journal at `path`; the caller holds the folder's lock.

    Raises:
        JournalError: The folder cannot be written, or holds the remains of a journal that was deleted.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        wanted = ".".join(map(str, OLDEST_SQLITE))
        raise JournalError(f"the journal needs SQLite {wanted} or newer; this Python has {sqlite3.sqlite_version}")
    log = _log_of(path)
    if log.exists():
        raise refusal(
            path,
            f"it is missing, but {log.name} is there: put both back, or move both away to start again from nothing",
        )
    fresh = path.with_name(path.name + ".new")
    with translated(path, "it cannot be created"):
        # Left by a process that was killed here, before it sent anything.
        fresh.unlink(missing_ok=True)
        fresh.with_name(fresh.name + "-journal").unlink(missing_ok=True)
        with closing(sqlite3.connect(fresh, isolation_level=None)) as connection:
            connection.executescript(f"{_SCHEMA}{_DOUBT_COUNTERS}")
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
        fresh.replace(path)


def has_log(path: Path) -> bool:
    """Return whether SQLite's log beside the journal at `path` is not empty; a run that was closed leaves none."""
    log = _log_of(path)
    return log.exists() and log.stat().st_size > 0


def _log_of(path: Path) -> Path:
    return path.with_name(path.name + "-wal")


def connect(path: Path, *, fsync: bool) -> sqlite3.Connection:
    """Open the journal at `path`, which `soundness` has checked, for its one writer.

    Raises:
        JournalError: It cannot be opened.
    """
    with translated(path, "it cannot be opened"):
        connection = _open(path, "mode=rw")  # never creates: a journal that vanished must not come back empty
        try:
            _configure(connection, fsync=fsync)
            if _pragma(connection, "user_version") == OLDEST_VERSION:
                connection.executescript(_FROM_VERSION_2)
                path.with_name(path.name + "-seal").unlink(missing_ok=True)  # a checksum that version 2 kept
        except BaseException:
            connection.close()
            raise
    return connection


@contextmanager
def open_for_reading(path: Path, *, immutable: bool = False) -> Iterator[sqlite3.Connection]:
    """Open the journal at `path` without writing to it, also while a run writes.

    Args:
        path: The journal.
        immutable: Whether to read the file alone, without its log and without a lock: no process writes to it.

    Raises:
        JournalError: There is none, it is not a journal, is damaged, or comes from another version.
    """
    with translated(path, "it cannot be read"):
        if not path.exists():
            raise refusal(path, "there is no journal here: no batch ever ran in this folder")
        with closing(_open(path, _IMMUTABLE) if immutable else _open_for_reading(path)) as connection:
            _check(connection, path)
            yield connection


def _open(path: Path, how: str) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?{how}", uri=True, timeout=10, isolation_level=None)


def _open_for_reading(path: Path) -> sqlite3.Connection:
    connection = _open(path, "mode=ro")
    try:
        connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    except sqlite3.Error as error:
        connection.close()
        # On read-only media SQLite cannot make its -shm file; with an empty log it needs none.
        if not isinstance(error, sqlite3.OperationalError) or has_log(path):
            raise
        return _open(path, _IMMUTABLE)
    return connection


def _configure(connection: sqlite3.Connection, *, fsync: bool) -> None:
    # After a loss of power, NORMAL loses the last moments and OFF could lose the file.
    pragmas = {
        "journal_mode": "WAL",
        "synchronous": "FULL" if fsync else "NORMAL",
        "fullfsync": "ON" if fsync else "OFF",  # macOS: flush the drive's cache as well
        "wal_autocheckpoint": str(_LOG_PAGES),
        "journal_size_limit": str(64 << 20),
        "cache_size": str(_LOG_PAGES * 5 // 4),
        "temp_store": "FILE",  # the tables of a run grow with its input
    }
    for name, value in pragmas.items():
        connection.execute(f"PRAGMA {name} = {value}").fetchall()


def _check(connection: sqlite3.Connection, path: Path) -> None:
    if path.stat().st_size == 0:
        raise refusal(path, "it is empty, which no journal is. Restore it, or move it away to start again from nothing")
    if _pragma(connection, "application_id") != APPLICATION_ID:
        raise refusal(path, "it is not a journal of imagen-async")
    version = _pragma(connection, "user_version")
    if version > VERSION:
        raise refusal(path, f"a newer imagen-async wrote it (format {version}, this one knows {VERSION}): update")
    if version < OLDEST_VERSION:
        raise refusal(
            path, f"an imagen-async before 0.1 wrote it (format {version}): use that one, or another output folder"
        )


def _pragma(connection: sqlite3.Connection, name: str) -> int:
    return int(connection.execute(f"PRAGMA {name}").fetchone()[0])


def refusal(path: Path, reason: str) -> JournalError:
    """Return the error that names the file, what is wrong with it and what to do."""
    return JournalError(f"journal {printable(str(path))}: {reason}")
