"""Checks a journal before a run writes to it.

Seen are files that are foreign, newer or cut short (a torn copy), a structure that SQLite's quick check finds broken,
and counters that disagree with the rows. A changed letter inside a row is not seen. Nothing is written here, so that a
journal that is refused stays as it is for whoever repairs it.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from imagen_async.batch.journal import schema
from imagen_async.batch.journal.schema import JOB_STATES, JOURNAL_NAME, refusal, translated
from imagen_async.exceptions import printable

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["check"]

_CACHE_KIB = 16 << 10
"""A larger cache made the check of a million jobs no faster, and a run never needs as much memory again."""
_SHOWN = 200
_ROUNDING = 1e-5
"""US dollars by which sums of many roundings may differ."""
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
            raise refusal(path, "it is not a file. Move it away to start anew")
        logged = schema.has_log(path)
        # Without a log nothing is read or made beside the file: `immutable` keeps SQLite from it.
        with schema.open_for_reading(path, immutable=not logged) as connection:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if not logged:
                _check_length(connection, path)
            verdict = printable(str(_first(connection, "PRAGMA quick_check(1)")), _SHOWN)
            if verdict != "ok":
                raise refusal(path, f"it is damaged ({verdict}). {_REMEDY}")
            _check_counters(connection, path)


def _check_length(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite does not miss empty pages at the end of a file.
    expected = _first(connection, "PRAGMA page_count") * _first(connection, "PRAGMA page_size")
    if (size := path.stat().st_size) < expected:
        raise refusal(path, f"it is damaged: {size} of {expected} bytes are there. {_REMEDY}")


def _check_counters(connection: sqlite3.Connection, path: Path) -> None:
    counters = _row(connection, "SELECT *, images AS images_of_jobs FROM totals")
    for name, number in _row(connection, _RECOUNT).items():
        if abs(counters.get(name, math.inf) - number) > _ROUNDING:
            difference = f"{name.replace('_', ' ')}: {number} are there, {counters.get(name)} were counted"
            raise refusal(path, f"it is damaged ({difference}). {_REMEDY}")


def _row(connection: sqlite3.Connection, question: str) -> dict[str, float]:
    cursor = connection.execute(question)
    row = cursor.fetchone() or ()
    return {column[0]: value for column, value in zip(cursor.description, row, strict=False)}


def _first(connection: sqlite3.Connection, question: str) -> Any:
    return connection.execute(question).fetchone()[0]
