"""The journal as another process reads it, during a run or after it, without writing to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from imagen_async.batch.journal import queries, schema

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable
    from pathlib import Path

    from imagen_async.batch.journal.values import ListedDoubt, Totals

P = ParamSpec("P")
T = TypeVar("T")

__all__ = ["read", "read_finished_input", "read_newest_doubts", "read_status"]


def read(folder: Path, query: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return what a query finds in the journal in `folder`.

    Raises:
        JournalError: There is no journal, or it is damaged, foreign or newer than this version.
    """
    with schema.open_for_reading(folder / schema.JOURNAL_NAME) as connection:
        return query(connection, *args, **kwargs)


def read_status(folder: Path) -> Totals:
    """Return the sums over the journal in `folder`; raises as `read`."""
    return read(folder, queries.totals)


def read_newest_doubts(folder: Path, *, running: bool, limit: int) -> list[ListedDoubt]:
    """Return the last requests in doubt, newest first; raises as `read`.

    Args:
        folder: Where the journal is.
        running: Whether a run is using the folder; if not, requests without a response are in doubt as well.
        limit: Most that are returned.
    """
    unanswered = [] if running else read(folder, queries.unanswered_requests, limit)
    return [*unanswered, *read(folder, queries.newest_doubts, limit - len(unanswered))]


def read_finished_input(folder: Path) -> str | None:
    """Return the record of a finished input, if the last run closed its journal: a killed run leaves a log.

    Raises:
        JournalError: The journal is damaged, foreign or of another version.
    """
    path = folder / schema.JOURNAL_NAME
    with schema.translated(path, "it cannot be read"):
        if not path.is_file() or schema.has_log(path):
            return None
    with schema.open_for_reading(path, immutable=True) as connection:
        return queries.finished_input(connection)
