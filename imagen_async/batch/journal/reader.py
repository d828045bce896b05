"""The journal as another process reads it, during a run or after it, without writing to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagen_async.batch.journal import queries, schema

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.batch.journal.values import ListedDoubt, RecordedImage, Totals

__all__ = ["read_finished_input", "read_images", "read_newest_doubts", "read_status"]


def read_status(folder: Path) -> Totals:
    """Read the sums over the journal in `folder`.

    Raises:
        JournalError: There is no journal, or it is damaged, foreign or newer than this version.
    """
    with schema.open_for_reading(folder / schema.JOURNAL_NAME) as connection:
        return queries.totals(connection)


def read_newest_doubts(folder: Path, *, running: bool, limit: int) -> list[ListedDoubt]:
    """Read the last requests in doubt, newest first.

    Args:
        folder: Where the journal is.
        running: Whether a run is using the folder; if not, requests without a response are in doubt as well.
        limit: Most that are returned.

    Raises:
        JournalError: There is no journal, or it is damaged, foreign or newer than this version.
    """
    with schema.open_for_reading(folder / schema.JOURNAL_NAME) as connection:
        unanswered = [] if running else queries.unanswered_requests(connection, limit)
        return [*unanswered, *queries.newest_doubts(connection, limit - len(unanswered))]


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


def read_images(folder: Path, *, after: int, limit: int) -> list[RecordedImage]:
    """Read the next images, in the order in which they were recorded.

    Args:
        folder: Where the journal is.
        after: The number of the last image that was read, or 0.
        limit: Most that are returned.

    Raises:
        JournalError: There is no journal, or it is damaged, foreign or of another version.
    """
    with schema.open_for_reading(folder / schema.JOURNAL_NAME) as connection:
        return queries.images_after(connection, after, limit)
