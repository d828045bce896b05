"""What the journal records: the states of a job, as steps for `Journal.perform`.

The rules: no row before an intent; a job that succeeded stays so unless one of its images is withdrawn; an image is
recorded once; a request that may have been billed and did not bring all of its images is never forgotten. Each step
runs inside a transaction and may run again after a rollback. Each raises `JournalError` if the journal is closed or
broken.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from imagen_async.batch.journal.json_lines import json_line, storable
from imagen_async.batch.journal.schema import JOB_STATES
from imagen_async.batch.journal.values import ABANDONED, FINISHED_INPUT, INTENT, INTERRUPTED, Doubt, Entry, Image
from imagen_async.exceptions import JournalError, printable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Mapping

__all__ = [
    "abandon",
    "adopt",
    "answered",
    "done",
    "doubt",
    "intent",
    "never_sent",
    "set_finished_input",
    "set_position",
    "withdraw",
]

_ENDS = frozenset(JOB_STATES) - {INTENT}


def abandon(connection: sqlite3.Connection) -> int:
    """Turn the requests that a killed run left in flight into doubts and `INTERRUPTED` jobs; return how many."""
    connection.execute(
        "INSERT INTO doubts (job, attempt, at, reason, images, usd) "
        "SELECT job, attempts, updated, ?, asked_images, asked_usd FROM jobs WHERE status = 'intent' "
        "ON CONFLICT (job, attempt) DO NOTHING",
        (ABANDONED,),
    )
    moved = connection.execute(
        "UPDATE jobs SET status = ?, before = NULL, updated = now() WHERE status = 'intent'", (INTERRUPTED,)
    )
    return moved.rowcount


def intent(
    connection: sqlite3.Connection,
    entry: Entry,
    *,
    attempt: int,
    images: int,
    usd: float = 0.0,
    key: str | None = None,
) -> None:
    """Record that a request is about to be sent. If the run dies before its end is recorded, it is in doubt.

    Args:
        connection: Inside a transaction.
        entry: As admitted in this run.
        attempt: Counted from 1 in each run.
        images: How many images are requested.
        usd: What they may cost by list price; 0 where the price is unknown.
        key: The request's ``Idempotency-Key``, for a run that sends it again.

    Raises:
        JournalError: The job has succeeded: send nothing.
    """
    changed = connection.execute(
        "INSERT INTO jobs (key, stem, id, line, n, status, attempts, asked_images, asked_usd, asked_key, updated) "
        "VALUES (?, ?, ?, ?, ?, 'intent', ?, ?, ?, ?, now()) "
        "ON CONFLICT (key) DO UPDATE SET before = CASE status WHEN 'intent' THEN before ELSE status END, "
        "status = 'intent', line = excluded.line, n = excluded.n, attempts = excluded.attempts, "
        "asked_images = excluded.asked_images, asked_usd = excluded.asked_usd, asked_key = excluded.asked_key, "
        "updated = excluded.updated WHERE status <> 'succeeded'",
        (*_identity(entry), entry.attempts + attempt, images, usd, key),
    )
    if not changed.rowcount:
        raise JournalError(f"{_named(entry)} has succeeded already: nothing may be sent for it")


def never_sent(connection: sqlite3.Connection, entry: Entry) -> None:
    """Remove the last intent: no byte of its request left, or the gateway refused it unbilled.

    A job that was new is forgotten; one with earlier attempts in this run is interrupted; any other gets back its
    earlier state. Without an intent nothing happens.
    """
    restored = connection.execute(
        "UPDATE jobs SET status = coalesce(before, :ended), before = NULL, attempts = max(attempts - 1, :last), "
        "updated = now() WHERE key = :key AND status = 'intent' AND (before IS NOT NULL OR attempts > 1 OR :last > 0)",
        {"key": entry.key, "ended": INTERRUPTED, "last": _last_doubt(connection, entry)},
    )
    if not restored.rowcount:
        connection.execute("DELETE FROM jobs WHERE key = ? AND status = 'intent'", (entry.key,))


def answered(connection: sqlite3.Connection, entry: Entry) -> None:
    """Record that the last request has its response and another one follows: the job is interrupted until then."""
    connection.execute(
        "UPDATE jobs SET status = ?, before = NULL, asked_key = NULL, updated = now() "
        "WHERE key = ? AND status = 'intent'",
        (INTERRUPTED, entry.key),
    )


def _last_doubt(connection: sqlite3.Connection, entry: Entry) -> int:
    # Two attempts with one number would share one doubt.
    last = connection.execute(
        "SELECT max(attempt) FROM doubts WHERE job = (SELECT job FROM jobs WHERE key = ?)", (entry.key,)
    ).fetchone()
    return int(last[0] or 0)


def doubt(connection: sqlite3.Connection, entry: Entry, doubt: Doubt) -> None:
    """Record that an attempt may have been billed and did not bring all of its images; once for each attempt.

    Raises:
        JournalError: The job has no intent.
    """
    connection.execute(
        "INSERT INTO doubts (job, attempt, at, request_id, reason, images, usd) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (job, attempt) DO NOTHING",
        (
            _known_job(connection, entry),
            entry.attempts + doubt.attempt,
            doubt.at,
            _text(doubt.request_id),
            storable(doubt.reason),
            doubt.images,
            doubt.usd,
        ),
    )


def adopt(connection: sqlite3.Connection, entry: Entry, *, images: Iterable[Image], missing: int = 0) -> None:
    """Record images whose files an earlier run published and was killed before it recorded them.

    The last request in doubt brought them: it is in doubt only for the missing images, or no longer. Call it before
    the job's first intent in this run.

    Args:
        connection: Inside a transaction.
        entry: As admitted in this run.
        images: As for `done`.
        missing: Images of the job that are neither recorded nor found; with none the job has succeeded.

    Raises:
        JournalError: As `done`, or images are missing and the job is new or in flight.
    """
    _lower_last_doubt(connection, entry, missing)
    if not missing:
        done(connection, entry, status="succeeded", images=images, attempts=0)
        return
    job = _known_job(connection, entry)
    if connection.execute("SELECT 1 FROM jobs WHERE job = ? AND status = 'intent'", (job,)).fetchone():
        # `never_sent` could then forget the job, and its images would have none.
        raise JournalError(f"{_named(entry)} is in flight: images of earlier runs are recorded before its intent")
    for image in images:
        _record(connection, entry, job, image)


def _lower_last_doubt(connection: sqlite3.Connection, entry: Entry, missing: int) -> None:
    """Lower the job's last doubt to `missing` images if its last request is the one in doubt.

    That request was for all images that were missing then. If a later request is not in doubt, it brought the
    images, and the doubts before it stay as they are.
    """
    row = connection.execute(
        "SELECT seq FROM doubts JOIN jobs USING (job) WHERE key = ? AND status <> 'succeeded' AND attempt = attempts",
        (entry.key,),
    ).fetchone()
    if row is None:
        return
    if missing:
        connection.execute(
            "UPDATE doubts SET images = :missing, usd = round(usd * :missing / images, 9) "
            "WHERE seq = :last AND images > :missing",
            {"missing": missing, "last": row[0]},
        )
    else:
        connection.execute("DELETE FROM doubts WHERE seq = ?", row)


def _known_job(connection: sqlite3.Connection, entry: Entry) -> int:
    row = connection.execute("SELECT job FROM jobs WHERE key = ?", (entry.key,)).fetchone()
    if row is None:
        raise JournalError(f"{_named(entry)} has no intent: no request of it can be in doubt or have brought an image")
    return int(row[0])


def done(
    connection: sqlite3.Connection,
    entry: Entry,
    *,
    status: str,
    images: Iterable[Image] = (),
    attempts: int,
    error: Mapping[str, Any] | None = None,
) -> None:
    """Record how a job ended, with its images.

    Args:
        connection: Inside a transaction.
        entry: As admitted in this run.
        status: A value of `Status` other than ``skipped``, or `INTERRUPTED`.
        images: Those that are new. Images of earlier runs stay, and the same image again changes nothing.
        attempts: Requests that this run sent for the job.
        error: For ``errors.jsonl``: ``type``, ``message``, ``request_id``, ``prompt`` and more.

    Raises:
        JournalError: The status or a record is invalid, the job has succeeded already, or another image with the same
            index is recorded.
    """
    if status not in _ENDS:
        raise JournalError(f"{status!r} is not an end of a job: use one of {', '.join(sorted(_ENDS))}")
    rows = connection.execute(
        "INSERT INTO jobs (key, stem, id, line, n, status, attempts, updated, error) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, now(), ?) "
        "ON CONFLICT (key) DO UPDATE SET status = excluded.status, before = NULL, line = excluded.line, "
        "n = excluded.n, attempts = max(attempts, excluded.attempts), updated = excluded.updated, "
        "in_doubt = CASE excluded.status WHEN 'succeeded' THEN 0 ELSE in_doubt END, "
        # A request in doubt may be sent again, under the same key.
        "asked_key = CASE WHEN EXISTS (SELECT 1 FROM doubts WHERE doubts.job = jobs.job "
        "AND doubts.attempt = max(jobs.attempts, excluded.attempts)) THEN asked_key END, "
        "error = excluded.error WHERE status <> 'succeeded' OR excluded.status = 'succeeded' RETURNING job",
        (*_identity(entry), status, entry.attempts + attempts, None if error is None else json_line(error)),
    ).fetchall()
    if not rows:
        raise JournalError(f"{_named(entry)} has succeeded already: it cannot become {status}")
    for image in images:
        _record(connection, entry, rows[0][0], image)


def _record(connection: sqlite3.Connection, entry: Entry, job: int, image: Image) -> None:
    index, record = image
    size, line = record.get("bytes"), json_line(record)
    added = connection.execute(
        "INSERT INTO images (job, idx, bytes, record) VALUES (?, ?, ?, ?) ON CONFLICT (job, idx) DO NOTHING",
        (job, index, size if isinstance(size, int) else 0, line),
    )
    if added.rowcount:
        return
    known = connection.execute("SELECT record FROM images WHERE job = ? AND idx = ?", (job, index)).fetchone()
    if known[0] != line:
        raise JournalError(f"{_named(entry)} has another image {index} already: an image is recorded once")


def withdraw(connection: sqlite3.Connection, images: Iterable[tuple[bytes, int]]) -> None:
    """Mark images as missing because their files are damaged; they stay counted as bought.

    A job that had succeeded is interrupted, so that the run requests its images again; any other state stays. Call it
    before anything is in flight, and rewrite the exports.

    Args:
        connection: Inside a transaction.
        images: Key of the job and index of the image; unknown ones are ignored.
    """
    for key, index in images:
        place = (key, index)
        moved = connection.execute(
            "INSERT INTO withdrawn (job, idx, at, record) "
            "SELECT job, idx, now(), record FROM images JOIN jobs USING (job) WHERE key = ? AND idx = ?",
            place,
        )
        if moved.rowcount:
            connection.execute("DELETE FROM images WHERE job = (SELECT job FROM jobs WHERE key = ?) AND idx = ?", place)
            connection.execute(
                "UPDATE jobs SET in_doubt = 0, asked_key = NULL, updated = now(), "
                "status = CASE status WHEN 'succeeded' THEN ? ELSE status END WHERE key = ?",
                (INTERRUPTED, key),
            )
    set_finished_input(connection, None)
    # The exported file has their lines, and the number of the last image may be used again.
    connection.execute("UPDATE exports SET seq = 0, offset = 0")


def set_finished_input(connection: sqlite3.Connection, text: str | None) -> None:
    """Replace the record of an input whose jobs have all succeeded; None removes it."""
    connection.execute("DELETE FROM meta WHERE name = ?", (FINISHED_INPUT,))
    if text is not None:
        connection.execute("INSERT INTO meta VALUES (?, ?)", (FINISHED_INPUT, text))


def set_position(connection: sqlite3.Connection, name: str, *, seq: int, offset: int) -> None:
    """Store how far the exported file `name` is: its last image's `seq` and its length in bytes."""
    connection.execute(
        "INSERT INTO exports VALUES (?, ?, ?) "
        "ON CONFLICT (name) DO UPDATE SET seq = excluded.seq, offset = excluded.offset",
        (name, seq, offset),
    )


def _identity(entry: Entry) -> tuple[bytes, str | None, str | None, int, int]:
    stem = None if entry.stem == entry.key.hex() else entry.stem
    return entry.key, stem, _text(entry.id), entry.line, entry.n


def _text(text: str | None) -> str | None:
    return None if text is None else storable(text)


def _named(entry: Entry) -> str:
    return f"job {printable(entry.stem, 80)} (line {entry.line})"
