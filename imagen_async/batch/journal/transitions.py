"""What the journal writes: the states a job goes through, as functions over a connection.

The rules it keeps: no row before an intent; a job that succeeded stays so, unless an image of it is withdrawn; an image
is recorded once; a request
that may have been billed and did not bring all is never forgotten. Each function runs inside a transaction that
its caller commits, and may run again after a rollback. Nothing here knows threads, files or the event loop.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from imagen_async.batch.journal.json_lines import storable
from imagen_async.batch.journal.values import ABANDONED, DIGEST_BYTES, INTERRUPTED, RECEIPT, Admission, Doubt, Entry
from imagen_async.exceptions import JournalError, printable

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

__all__ = [
    "EncodedImage",
    "abandon",
    "admit",
    "answered",
    "begin_run",
    "done",
    "doubt",
    "found",
    "intent",
    "never_sent",
    "received",
    "set_position",
    "set_receipt",
    "withdraw",
]

EncodedImage = tuple[int, int, str]
"""An image's index, its size in bytes, and its line of metadata."""

_Known = list[Any]
"""What the journal has of a job: stem, status, images, attempts, requests in doubt, Idempotency-Key."""

_TOGETHER = 250
"""Jobs that are looked up with one question: SQLite takes a thousand parameters everywhere, and more gain nothing."""

_LIKE_A_KEY = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{8})?")


def begin_run(connection: sqlite3.Connection) -> None:
    """Make the run's own tables: equals seen so far and stems handed out; on disk, not in memory."""
    connection.execute("CREATE TEMP TABLE seen (digest BLOB PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID")
    connection.execute("CREATE TEMP TABLE stems (stem TEXT PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID")


def abandon(connection: sqlite3.Connection, *, at: float) -> int:
    """Turn what a dead run left in flight into doubts and `INTERRUPTED` jobs; return how many."""
    connection.execute(
        "INSERT INTO doubts (job, attempt, at, reason, images, usd) "
        "SELECT job, attempts, updated, ?, asked_images, asked_usd FROM jobs WHERE status = 'intent' "
        "ON CONFLICT (job, attempt) DO NOTHING",
        (ABANDONED,),
    )
    moved = connection.execute(
        "UPDATE jobs SET status = ?, before = NULL, updated = ? WHERE status = 'intent'", (INTERRUPTED, at)
    )
    return moved.rowcount


def admit(connection: sqlite3.Connection, items: Iterable[Admission]) -> list[Entry]:
    """Look jobs up, in the order of the input; nothing but the run's own tables is written."""
    entries: list[Entry] = []
    rest = iter(items)
    while group := list(itertools.islice(rest, _TOGETHER)):
        keys = _numbered(connection, [item.digest for item in group])
        known = _known(connection, keys)
        entries += [_admitted(connection, item, key, known.get(key)) for item, key in zip(group, keys, strict=True)]
    return entries


def _known(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, _Known]:
    columns = "key, stem, status, images, attempts, in_doubt, asked_key"
    wanted = ", ".join("?" * len(keys))
    rows = connection.execute(f"SELECT {columns} FROM jobs WHERE key IN ({wanted})", keys)  # noqa: S608 - question marks
    return {key: known for key, *known in rows}


def _admitted(connection: sqlite3.Connection, item: Admission, key: bytes, known: _Known | None) -> Entry:
    stem, status, images, attempts, in_doubt, asked_key = known or (None, None, 0, 0, 0, None)
    if stem is None:
        wish = item.id if item.stem is None else item.stem
        stem = key.hex() if known or wish is None else _claimed_stem(connection, storable(wish), key)
    return Entry(
        key=key,
        stem=stem,
        id=item.id,
        line=item.line,
        n=item.n,
        status=status,
        images=images,
        attempts=attempts,
        in_doubt=in_doubt,
        idempotency_key=asked_key,
    )


def _numbered(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[bytes]:
    """Make keys of digests: equals are numbered as they come."""
    for digest in digests:
        if len(digest) != DIGEST_BYTES:
            raise JournalError(f"a request's digest must be {DIGEST_BYTES} bytes, not {len(digest)}")
    wanted = ", ".join("?" * len(digests))
    times: dict[bytes, int] = dict(
        connection.execute(f"SELECT digest, times FROM temp.seen WHERE digest IN ({wanted})", digests)  # noqa: S608 - question marks
    )
    keys: list[bytes] = []
    for digest in digests:
        earlier = times.get(digest, 0)
        times[digest] = earlier + 1
        keys.append(digest + earlier.to_bytes(4, "big") if earlier else digest)
    connection.executemany(
        "INSERT INTO temp.seen VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET times = excluded.times", times.items()
    )
    return keys


def _claimed_stem(connection: sqlite3.Connection, wish: str, key: bytes) -> str:
    stem = next(stem for stem in _wishes(wish, key.hex()) if not _is_taken(connection, stem, key))
    connection.execute("INSERT INTO temp.stems VALUES (?, ?) ON CONFLICT DO NOTHING", (stem, key))
    return stem


def _wishes(wish: str, digits: str) -> Iterator[str]:
    if not _LIKE_A_KEY.fullmatch(wish):  # that shape belongs to the jobs without an id
        yield wish
    yield f"{wish}~{digits[:8]}"
    yield f"{wish}~{digits}"
    yield from (f"{wish}~{digits}~{number}" for number in itertools.count(2))


def _is_taken(connection: sqlite3.Connection, stem: str, key: bytes) -> bool:
    owners = connection.execute(
        "SELECT 1 FROM jobs WHERE stem = :stem AND key <> :key UNION ALL "
        "SELECT 1 FROM temp.stems WHERE stem = :stem AND key <> :key",
        {"stem": stem, "key": key},
    )
    return owners.fetchone() is not None


def intent(
    connection: sqlite3.Connection, entry: Entry, *, attempt: int, images: int, usd: float, key: str | None, at: float
) -> None:
    """Note that a request for `entry` is about to be sent, and what it asks for."""
    changed = connection.execute(
        "INSERT INTO jobs (key, stem, id, line, n, status, attempts, asked_images, asked_usd, asked_key, updated) "
        "VALUES (?, ?, ?, ?, ?, 'intent', ?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET before = CASE status WHEN 'intent' THEN before ELSE status END, "
        "status = 'intent', line = excluded.line, n = excluded.n, attempts = excluded.attempts, "
        "asked_images = excluded.asked_images, asked_usd = excluded.asked_usd, asked_key = excluded.asked_key, "
        "updated = excluded.updated WHERE status <> 'succeeded'",
        (*_identity(entry), entry.attempts + attempt, images, usd, key, at),
    )
    if not changed.rowcount:
        raise JournalError(f"{_named(entry)} has succeeded already: nothing may be sent for it")


def never_sent(connection: sqlite3.Connection, entry: Entry, *, at: float) -> None:
    """Take the last intent back: the job's state becomes what it was before."""
    restored = connection.execute(
        "UPDATE jobs SET status = coalesce(before, :ended), before = NULL, attempts = max(attempts - 1, :last), "
        "updated = :at WHERE key = :key AND status = 'intent' AND (before IS NOT NULL OR attempts > 1 OR :last > 0)",
        {"key": entry.key, "ended": INTERRUPTED, "last": _last_doubt(connection, entry), "at": at},
    )
    if not restored.rowcount:
        connection.execute("DELETE FROM jobs WHERE key = ? AND status = 'intent'", (entry.key,))


def answered(connection: sqlite3.Connection, entry: Entry, *, at: float) -> None:
    """Leave a job for the next run: its last request has been answered, and another one is to follow."""
    connection.execute(
        "UPDATE jobs SET status = ?, before = NULL, asked_key = NULL, updated = ? WHERE key = ? AND status = 'intent'",
        (INTERRUPTED, at, entry.key),
    )


def _last_doubt(connection: sqlite3.Connection, entry: Entry) -> int:
    # A number that a doubt has must not be given to another attempt, or that one's doubt would be lost.
    last = connection.execute(
        "SELECT max(attempt) FROM doubts WHERE job = (SELECT job FROM jobs WHERE key = ?)", (entry.key,)
    ).fetchone()
    return int(last[0] or 0)


def doubt(connection: sqlite3.Connection, entry: Entry, doubts: Iterable[Doubt]) -> None:
    """Record requests that may have been billed and did not bring all images; each attempt once."""
    job = _known_job(connection, entry)
    connection.executemany(
        "INSERT INTO doubts (job, attempt, at, request_id, reason, images, usd) VALUES (?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (job, attempt) DO NOTHING",
        [(job, *_doubt_values(entry, each)) for each in doubts],
    )


def _doubt_values(entry: Entry, doubt: Doubt) -> tuple[int, float, str | None, str, int, float]:
    attempt = entry.attempts + doubt.attempt
    return attempt, doubt.at, _text(doubt.request_id), storable(doubt.reason), doubt.images, doubt.usd


def received(connection: sqlite3.Connection, entry: Entry, *, missing: int) -> None:
    """Lower the last doubt of `entry` to what is missing still: the rest of what it was billed for has been found.

    That request asked for all that was missing then, and none was sent after it: a later one that is in no doubt has
    brought what was found, and left the doubts before it as they are. With nothing missing there is no doubt of it.
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


def found(connection: sqlite3.Connection, entry: Entry, images: Iterable[EncodedImage]) -> None:
    """Record images of a job that is known and not under way, and leave its state as it is."""
    job = _known_job(connection, entry)
    if connection.execute("SELECT 1 FROM jobs WHERE job = ? AND status = 'intent'", (job,)).fetchone():
        # Taking that intent back could forget the job, and its images would be nobody's.
        raise JournalError(f"{_named(entry)} is under way: what earlier runs left of it is recorded before")
    for image in images:
        _record(connection, entry, job, image)


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
    images: Iterable[EncodedImage],
    attempts: int,
    error: str | None,
    at: float,
) -> None:
    """Record how a job ended, with its images."""
    rows = connection.execute(
        "INSERT INTO jobs (key, stem, id, line, n, status, attempts, updated, error) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) "
        "ON CONFLICT (key) DO UPDATE SET status = excluded.status, before = NULL, line = excluded.line, "
        "n = excluded.n, attempts = max(attempts, excluded.attempts), updated = excluded.updated, "
        "in_doubt = CASE excluded.status WHEN 'succeeded' THEN 0 ELSE in_doubt END, "
        # A request in doubt may be sent again, under the same key.
        "asked_key = CASE WHEN EXISTS (SELECT 1 FROM doubts WHERE doubts.job = jobs.job "
        "AND doubts.attempt = max(jobs.attempts, excluded.attempts)) THEN asked_key END, "
        "error = excluded.error WHERE status <> 'succeeded' OR excluded.status = 'succeeded' RETURNING job",
        (*_identity(entry), status, entry.attempts + attempts, at, error),
    ).fetchall()
    if not rows:
        raise JournalError(f"{_named(entry)} has succeeded already: it cannot become {status}")
    for image in images:
        _record(connection, entry, rows[0][0], image)


def _record(connection: sqlite3.Connection, entry: Entry, job: int, image: EncodedImage) -> None:
    index, size, line = image
    added = connection.execute(
        "INSERT INTO images (job, idx, bytes, record) VALUES (?, ?, ?, ?) ON CONFLICT (job, idx) DO NOTHING",
        (job, index, size, line),
    )
    if added.rowcount:
        return
    known = connection.execute("SELECT record FROM images WHERE job = ? AND idx = ?", (job, index)).fetchone()
    if known[0] != line:
        raise JournalError(f"{_named(entry)} has another image {index} already: an image is recorded once")


def withdraw(connection: sqlite3.Connection, images: Iterable[tuple[bytes, int]], *, at: float) -> None:
    """Take images, by key and index, out of the account: their files are damaged, and a run is to ask for them again.

    What was recorded of them is kept aside. A job that had succeeded is interrupted, so that the next run takes it up;
    any other stays what it is.
    """
    for key, index in images:
        place = (key, index)
        moved = connection.execute(
            "INSERT INTO withdrawn (job, idx, at, record) "
            "SELECT job, idx, ?, record FROM images JOIN jobs USING (job) WHERE key = ? AND idx = ?",
            (at, *place),
        )
        if moved.rowcount:
            connection.execute("DELETE FROM images WHERE job = (SELECT job FROM jobs WHERE key = ?) AND idx = ?", place)
            connection.execute(
                "UPDATE jobs SET in_doubt = 0, asked_key = NULL, updated = :at, "
                "status = CASE status WHEN 'succeeded' THEN :interrupted ELSE status END WHERE key = :key",
                {"interrupted": INTERRUPTED, "at": at, "key": key},
            )
    set_receipt(connection, None)
    # What was exported has their lines, and the number of the last image may be given to another.
    connection.execute("UPDATE exports SET seq = 0, offset = 0")


def set_receipt(connection: sqlite3.Connection, text: str | None) -> None:
    """Keep a receipt: words for it that every job of some input has succeeded; None takes it back."""
    connection.execute("DELETE FROM meta WHERE name = ?", (RECEIPT,))
    if text is not None:
        connection.execute("INSERT INTO meta VALUES (?, ?)", (RECEIPT, text))


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
