"""What can be read from the journal: totals, failures, doubts, images, and the positions of its exports.

Steps for `Journal.perform`, and for the readers of other processes. Lists come in pages or one by one, so that a list
of millions needs little memory.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from imagen_async.batch.journal.schema import JOB_STATES
from imagen_async.batch.journal.values import (
    ABANDONED,
    FINISHED_INPUT,
    Doubt,
    Failure,
    History,
    ListedDoubt,
    RecordedImage,
    Totals,
    Unanswered,
)
from imagen_async.exceptions import JournalError, printable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Generator

__all__ = [
    "failure",
    "failures",
    "finished_input",
    "history",
    "image_line",
    "image_lines_after",
    "images_after",
    "images_by_model",
    "named_row",
    "newest_doubts",
    "position",
    "totals",
    "unanswered_requests",
]

_SHOWN = 200
_JOB = "SELECT job, id, line, status, attempts, updated, error FROM jobs"
_DOUBTS = "SELECT id, line, attempt, at, reason, request_id, doubts.images, usd FROM doubts JOIN jobs USING (job)"
# A job that waits for its next attempt after one in doubt is in intent as well.
_UNANSWERED = (
    "FROM jobs WHERE status = 'intent' "
    "AND NOT EXISTS (SELECT 1 FROM doubts WHERE doubts.job = jobs.job AND attempt = attempts)"
)


def totals(connection: sqlite3.Connection) -> Totals:
    """Read the sums."""
    sums = named_row(connection, "SELECT * FROM totals")
    jobs = {state: sums.pop(state) for state in JOB_STATES}
    unanswered = (
        "SELECT count(*) AS requests, coalesce(sum(asked_images), 0) AS images, round(total(asked_usd), 9) AS usd"
    )
    return Totals(jobs=jobs, unanswered=Unanswered(**named_row(connection, f"{unanswered} {_UNANSWERED}")), **sums)


def named_row(connection: sqlite3.Connection, query: str) -> dict[str, Any]:
    """Return the first row of a query by the names of its columns."""
    cursor = connection.execute(query)
    row = cursor.fetchone() or ()
    return {column[0]: value for column, value in zip(cursor.description, row, strict=False)}


def failure(connection: sqlite3.Connection, key: bytes) -> Failure | None:
    """Return the job with `key` as a failure, or None if there is no such job."""
    row = connection.execute(f"{_JOB} WHERE key = ?", (key,)).fetchone()
    return None if row is None else _failure(connection, row)


def failures(connection: sqlite3.Connection) -> Generator[Failure, None, None]:
    """Iterate over the jobs to report: those without success by line, then others with requests in doubt, by age."""
    for condition in (
        "status NOT IN ('intent', 'succeeded') ORDER BY line, key",
        "status IN ('intent', 'succeeded') AND job IN (SELECT job FROM doubts) ORDER BY job",
    ):
        for row in connection.execute(f"{_JOB} WHERE {condition}"):
            yield _failure(connection, row)


def _failure(connection: sqlite3.Connection, row: tuple[Any, ...]) -> Failure:
    job, job_id, line, status, attempts, updated, error = row
    doubts = connection.execute(
        "SELECT attempt, at, reason, request_id, images, usd FROM doubts WHERE job = ? ORDER BY attempt", (job,)
    )
    return Failure(
        id=job_id,
        line=line,
        status=status,
        attempts=attempts,
        at=updated,
        error=None if error is None else _loaded(error),
        doubts=tuple(map(_doubt, doubts)),
    )


def _doubt(row: tuple[Any, ...]) -> Doubt:
    attempt, at, reason, request_id, images, usd = row
    return Doubt(attempt=attempt, at=at, reason=reason, request_id=request_id, images=images, usd=usd)


def newest_doubts(connection: sqlite3.Connection, limit: int) -> list[ListedDoubt]:
    """Return the last doubts, newest first."""
    return [_listed(row) for row in connection.execute(f"{_DOUBTS} ORDER BY seq DESC LIMIT ?", (limit,))]


def unanswered_requests(connection: sqlite3.Connection, limit: int) -> list[ListedDoubt]:
    """Return the requests without a response as the doubts that the next run will record, newest first."""
    as_doubts = "SELECT id, line, attempts, updated, ?, NULL, asked_images, asked_usd"
    rows = connection.execute(f"{as_doubts} {_UNANSWERED} ORDER BY updated DESC LIMIT ?", (ABANDONED, limit))
    return [_listed(row) for row in rows]


def _listed(row: tuple[Any, ...]) -> ListedDoubt:
    return ListedDoubt(id=row[0], line=row[1], doubt=_doubt(row[2:]))


def history(connection: sqlite3.Connection, key: bytes) -> History:
    """Return what earlier runs recorded of a job."""
    [job, error] = connection.execute("SELECT job, error FROM jobs WHERE key = ?", (key,)).fetchone() or (None, None)
    images, withdrawn = (
        tuple((index, _loaded(record)) for index, record in connection.execute(query, (job,)))
        for query in (
            "SELECT idx, record FROM images WHERE job = ? ORDER BY idx",
            "SELECT idx, record FROM withdrawn WHERE job = ? ORDER BY idx, seq",
        )
    )
    return History(images=images, withdrawn=withdrawn, error=None if error is None else _loaded(error))


def images_after(connection: sqlite3.Connection, seq: int, limit: int) -> list[RecordedImage]:
    """Return the next images after image `seq`, in the order in which they were recorded."""
    rows = connection.execute(
        # CROSS: walk the images in their own order, so that a page costs a page.
        "SELECT seq, key, id, line, idx, record FROM images CROSS JOIN jobs USING (job) "
        "WHERE seq > ? ORDER BY seq LIMIT ?",
        (seq, limit),
    )
    return [
        RecordedImage(seq=seq, key=key, id=job_id, line=line, index=index, record=_loaded(record))
        for seq, key, job_id, line, index, record in rows
    ]


def _loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise JournalError(f"the journal is damaged: a record in it is not JSON: {printable(text, _SHOWN)}") from None


def image_line(connection: sqlite3.Connection, seq: int) -> str | None:
    """Return the metadata line of image `seq`, without its newline, or None."""
    row = connection.execute("SELECT record FROM images WHERE seq = ?", (seq,)).fetchone()
    return None if row is None else row[0]


def image_lines_after(connection: sqlite3.Connection, seq: int) -> sqlite3.Cursor:
    """Iterate over the images recorded after image `seq`: number and metadata line. The caller closes the cursor.

    An open cursor outlives its connection and keeps the next one from folding in the log.
    """
    return connection.execute("SELECT seq, record FROM images WHERE seq > ? ORDER BY seq", (seq,))


def position(connection: sqlite3.Connection, name: str) -> tuple[int, int] | None:
    """Return the position of the exported file `name`, ``(seq, offset)``, or None if it was never begun."""
    row: tuple[int, int] | None
    row = connection.execute("SELECT seq, offset FROM exports WHERE name = ?", (name,)).fetchone()
    return row


def finished_input(connection: sqlite3.Connection) -> str | None:
    """Return the record of an input whose jobs have all succeeded, or None."""
    row = connection.execute("SELECT value FROM meta WHERE name = ?", (FINISHED_INPUT,)).fetchone()
    return None if row is None else str(row[0])


def images_by_model(connection: sqlite3.Connection) -> dict[str, int]:
    """Count the images that were ever bought by the ``model`` of their records; takes a second for a million."""
    rows = connection.execute(
        "SELECT coalesce(json_extract(record, '$.model'), ''), count(*) "
        "FROM (SELECT record FROM images UNION ALL SELECT record FROM withdrawn) GROUP BY 1"
    )
    return {str(model): int(count) for model, count in rows}
