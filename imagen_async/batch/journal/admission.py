"""Looks up the jobs of the input in the journal, and names them: each job's key, and the stem of its files.

Nothing is recorded here. Equal requests are numbered in the order of the input, and two jobs never share a stem.
"""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from imagen_async.batch.journal.json_lines import storable
from imagen_async.batch.journal.values import DIGEST_BYTES, Admission, Entry
from imagen_async.exceptions import JournalError

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator, Sequence

__all__ = ["admit", "begin_run"]

_COLUMNS = "key, stem, status, images, attempts, in_doubt, asked_key"
_NEW: list[Any] = [None, None, 0, 0, 0, None]
"""The columns of a job without a row."""

_LOOKED_UP_TOGETHER = 250
"""Jobs in one query: SQLite takes a thousand parameters everywhere, and more than this gain nothing."""

_LIKE_A_KEY = re.compile(r"[0-9a-f]{32}(?:[0-9a-f]{8})?")


def begin_run(connection: sqlite3.Connection) -> None:
    """Make the tables of this run, on disk: the equal jobs so far, and the stems in use."""
    connection.execute("CREATE TEMP TABLE seen (digest BLOB PRIMARY KEY, times INTEGER NOT NULL) WITHOUT ROWID")
    connection.execute("CREATE TEMP TABLE stems (stem TEXT PRIMARY KEY, key BLOB NOT NULL) WITHOUT ROWID")


def admit(connection: sqlite3.Connection, items: Iterable[Admission]) -> list[Entry]:
    """Look up the next jobs of the input, in its order; equal jobs are numbered.

    Nothing is recorded for a job before its intent. Call it in groups of some hundred.

    Raises:
        JournalError: A digest is not 16 bytes.
    """
    entries: list[Entry] = []
    rest = iter(items)
    while group := list(itertools.islice(rest, _LOOKED_UP_TOGETHER)):
        keys = _numbered(connection, [item.digest for item in group])
        wanted = ", ".join("?" * len(keys))
        rows = connection.execute(f"SELECT {_COLUMNS} FROM jobs WHERE key IN ({wanted})", keys)  # noqa: S608 - question marks
        known = {key: columns for key, *columns in rows}
        for item, key in zip(group, keys, strict=True):
            stem, status, images, attempts, in_doubt, asked_key = known.get(key, _NEW)
            entries.append(
                Entry(
                    key=key,
                    stem=_new_stem(connection, item, key, known=key in known) if stem is None else stem,
                    id=item.id,
                    line=item.line,
                    n=item.n,
                    status=status,
                    images=images,
                    attempts=attempts,
                    in_doubt=in_doubt,
                    idempotency_key=asked_key,
                )
            )
    return entries


def _numbered(connection: sqlite3.Connection, digests: Sequence[bytes]) -> list[bytes]:
    """Make keys of digests; equal digests are numbered in their order."""
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


def _new_stem(connection: sqlite3.Connection, item: Admission, key: bytes, *, known: bool) -> str:
    wish = item.id if item.stem is None else item.stem
    if known or wish is None:
        return key.hex()
    wishes = _wishes(storable(wish), key.hex())
    stem = next(stem for stem in wishes if not _is_taken(connection, stem, key))
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
