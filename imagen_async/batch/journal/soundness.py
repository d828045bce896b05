"""Checks a journal before a run writes to it.

It finds files that are foreign, newer or cut short (a torn copy), a structure that fails SQLite's quick check, and
counters that disagree with the rows. It does not find a changed letter inside a row. Nothing is written here, so that a
refused journal can be repaired.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from imagen_async.batch.journal import schema
from imagen_async.batch.journal.queries import named_row
from imagen_async.batch.journal.schema import JOB_STATES, JOURNAL_NAME, refusal, translated
from imagen_async.exceptions import printable

if TYPE_CHECKING:
    import sqlite3
    from pathlib import Path

__all__ = ["check"]

_CACHE_KIB = 16 << 10
"""A larger cache does not check a million jobs faster."""
_SHOWN = 200
_ROUNDING = 1e-5
"""Largest difference of two sums in US dollars that rounding explains."""
_REMEDY = (
    f"Restore it from a copy, or move all {JOURNAL_NAME}* away to start again from nothing and buy everything again; "
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
"""  # noqa: S608 - the states are constants


def check(path: Path) -> None:
    """Read all of the journal at `path`, with its log.

    Raises:
        JournalError: It is not a journal, is damaged, or comes from a newer version.
    """
    with translated(path, "it cannot be checked"):
        if not path.is_file():
            raise refusal(path, "it is not a file. Move it away to start again from nothing")
        logged = schema.has_log(path)
        # Without a log, `immutable` keeps SQLite from making files beside the journal.
        with schema.open_for_reading(path, immutable=not logged) as connection:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
            if not logged:
                _check_length(connection, path)
            verdict = printable(str(_first(connection, "PRAGMA quick_check(1)")), _SHOWN)
            if verdict != "ok":
                raise refusal(path, f"it is damaged ({verdict}). {_REMEDY}")
            _check_counters(connection, path)


def _check_length(connection: sqlite3.Connection, path: Path) -> None:
    # SQLite does not notice missing empty pages at the end of a file.
    expected = _first(connection, "PRAGMA page_count") * _first(connection, "PRAGMA page_size")
    if (size := path.stat().st_size) < expected:
        raise refusal(path, f"it is damaged: {size} of {expected} bytes are there. {_REMEDY}")


def _check_counters(connection: sqlite3.Connection, path: Path) -> None:
    counters = named_row(connection, "SELECT *, images AS images_of_jobs FROM totals")
    for name, number in named_row(connection, _RECOUNT).items():
        if abs(counters.get(name, math.inf) - number) > _ROUNDING:
            difference = f"{name.replace('_', ' ')}: {number} are there, {counters.get(name)} were counted"
            raise refusal(path, f"it is damaged ({difference}). {_REMEDY}")


def _first(connection: sqlite3.Connection, query: str) -> Any:
    return connection.execute(query).fetchone()[0]
