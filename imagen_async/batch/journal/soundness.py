"""Whether a journal is what an earlier run left: everything that is checked before it is written to.

The rules: nothing is written here, not even a log folded in, so that what is refused stays as it is for whoever wants
to repair it; and a check costs no more than a run's beginning bears. A journal that a run has closed is compared with
its seal, which sees any change at all. One whose run was killed has none: SQLite's own check sees a damaged structure
or index, the states of the jobs and the sums are compared, and the log is read as far as it goes. It knows nothing of
what the rows mean.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from imagen_async.batch.journal import schema
from imagen_async.batch.journal.schema import JOB_STATES, JOURNAL_NAME, refusal, translated
from imagen_async.batch.journal.seal import read_seal, seal_of
from imagen_async.batch.journal.wal import read_log
from imagen_async.exceptions import printable

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["check"]

_WITH_LOG, _WITHOUT = b"\2\2", b"\1\1"
"""How a file says that it is written; without a log before the first run has opened it."""
_CACHE_KIB = 16 << 10
"""Of a million jobs, 64 MiB made the check no quicker, and the run would never need as much memory again."""
_SHOWN = 200
_ROUNDING = 1e-5
"""US dollars that sums of many roundings may be apart."""
_REMEDY = (
    f"Restore it from a copy, or move all {JOURNAL_NAME}* away to start anew and buy everything again; "
    "it was left as it is"
)

_RECOUNT = f"""
SELECT
    {", ".join(f"coalesce(sum(status = '{state}'), 0) AS {state}" for state in JOB_STATES)},
    coalesce(sum(attempts), 0) AS attempts,
    (SELECT count(*) FROM images) AS images,
    coalesce(sum(images), 0) AS images_of_jobs,
    (SELECT coalesce(sum(bytes), 0) FROM images) AS bytes,
    (SELECT count(*) FROM doubts) AS doubts,
    (SELECT coalesce(sum(images), 0) FROM doubts) AS doubtful_images,
    (SELECT total(usd) FROM doubts) AS doubtful_usd
FROM jobs
"""  # noqa: S608 - the states are our own words


def check(path: Path) -> None:
    """Read all of the journal at `path`, with its log.

    Raises:
        JournalError: It is not a journal, is damaged, or comes from a newer version.
    """
    with translated(path, "it cannot be checked"):
        if not path.is_file():
            raise refusal(path, "it is no file: a journal is one. Move it away to start anew")
        log = path.with_name(path.name + "-wal")
        logged = log.exists() and log.stat().st_size > 0
        if logged:
            _check_log(path, log)
        sealed = not logged and _check_seal(path)
        # Without a log, nothing beside the file is made or read: `immutable` keeps SQLite from it.
        with schema.open_for_reading(path, immutable=not logged) as connection:
            if not sealed:
                _check_content(connection, path, logged=logged)


def _check_log(path: Path, log: Path) -> None:
    # SQLite would believe a file that denies its log, and forget what is in it.
    _check_modes(path, {_WITH_LOG, b""})
    with log.open("rb") as file:
        found = read_log(file)
    if not found.damaged:
        return
    if not found.whole:
        raise refusal(log, f"it is damaged at its beginning, so that nothing in it can be read. {_REMEDY}")
    raise refusal(
        log,
        f"it is damaged behind byte {found.whole}, and held {found.commits} more transactions. Restore it from a "
        f"copy; or cut it to {found.whole} bytes to go on without them, and what they recorded may be bought again. "
        "It was left as it is",
    )


def _check_modes(path: Path, allowed: set[bytes]) -> None:
    with path.open("rb") as file:
        modes = file.read(20)[18:]
    if modes not in allowed:
        raise refusal(path, f"it is damaged: its header has {modes.hex(' ')} for how it is written. {_REMEDY}")


def _check_seal(path: Path) -> bool:
    """Compare the file with its seal; say whether there is one."""
    left = read_seal(path)
    if left is None:
        return False
    size = path.stat().st_size
    if size < left.size:
        raise refusal(path, f"it is damaged: {size} of {left.size} bytes are there. {_REMEDY}")
    if seal_of(path) != left:
        raise refusal(
            path,
            f"it is damaged: its content is not what the last run left. {_REMEDY}. If it was changed on purpose, "
            f"remove {path.name}-seal",
        )
    return True


def _check_content(connection: sqlite3.Connection, path: Path, *, logged: bool) -> None:
    _check_modes(path, {_WITH_LOG, _WITHOUT})
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
    expected = _first(connection, "PRAGMA page_count") * _first(connection, "PRAGMA page_size")
    if not logged and path.stat().st_size < expected:
        # Pages at the end that hold nothing are missed by nobody, SQLite's check included.
        raise refusal(path, f"it is damaged: {path.stat().st_size} of {expected} bytes are there. {_REMEDY}")
    verdict = printable(str(_first(connection, "PRAGMA integrity_check(1)")), _SHOWN)
    if verdict != "ok":
        raise refusal(path, f"it is damaged ({verdict}). {_REMEDY}")
    counters = _row(connection, "SELECT *, images AS images_of_jobs FROM totals")
    counted = _row(connection, _RECOUNT)
    for name, number in counted.items():
        if abs(counters.get(name, math.inf) - number) > _ROUNDING:
            told = f"{name.replace('_', ' ')}: {number} are there, {counters.get(name)} were counted"
            raise refusal(path, f"it is damaged ({told}). {_REMEDY}")


def _row(connection: sqlite3.Connection, question: str) -> dict[str, float]:
    cursor = connection.execute(question)
    row = cursor.fetchone() or ()
    return {column[0]: value for column, value in zip(cursor.description, row, strict=False)}


def _first(connection: sqlite3.Connection, question: str) -> Any:
    return connection.execute(question).fetchone()[0]
