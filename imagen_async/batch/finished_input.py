"""Records that every job of an input file has succeeded, so that the next run need not read the file row by row.

The record holds for the same bytes, read with the same settings by the same version; anything else is read as if there
were none. The journal removes the record with the first image that is withdrawn.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from typing import TYPE_CHECKING

from imagen_async._version import __version__
from imagen_async.batch.folder import INNER_NAME
from imagen_async.batch.journal import Journal, queries, read_finished_input, transitions
from imagen_async.batch.sources.feed import aside
from imagen_async.batch.sources.source import Report, Source
from imagen_async.exceptions import ConfigurationError, JournalError

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.catalog import Catalog

__all__ = ["FinishedInput"]

_COUNTED = ("rows", "requests", "images", "notes", "models")
"""The attributes of a report about a file without bad rows."""


class FinishedInput:
    """The record of one input file in one output folder.

    Args:
        source: The file; it can be read more than once.
        folder: The output folder.
        catalog: Its limits split rows into requests.
    """

    def __init__(self, source: Source, folder: Path, catalog: Catalog) -> None:
        self._source = source
        self._folder = folder
        self._catalog = catalog
        self._found: str | None = None

    def find(self) -> Report | None:
        """Return what an earlier run found in the same file, if all of its jobs succeeded; the journal may be closed.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        try:
            text = read_finished_input(self._folder / INNER_NAME)
        except JournalError:
            return None  # raised when the journal is opened
        _, _, counted = (text or "").partition(" ")
        if not counted or text != self._signed(counted):
            return None
        self._found = text
        return Report(source=self._source.name, bad=0, problems=(), **json.loads(counted))

    async def holds(self, journal: Journal) -> bool:
        """Return whether the record that was found is still there, now that no other run can change it.

        Raises:
            JournalError: The journal broke.
        """
        return self._found is not None and self._found == await journal.perform(queries.finished_input)

    async def record(self, report: Report, journal: Journal) -> None:
        """Record that every job of the file has succeeded.

        Nothing is recorded if the file has changed meanwhile or the journal fails: the next run only takes longer.
        """
        counted = json.dumps({name: getattr(report, name) for name in _COUNTED}, default=dict)
        with contextlib.suppress(ConfigurationError, JournalError):
            text = await aside(functools.partial(self._signed, counted))
            await journal.perform(transitions.set_finished_input, text)

    def _signed(self, counted: str) -> str:
        """Return `counted` after a digest of it and of everything that decides which jobs the file becomes."""
        limits = [repr(model) for model in self._catalog.values()]
        parts = "\0".join((__version__, self._source.fingerprint(), *limits, counted))
        return f"{hashlib.sha256(parts.encode('utf-8', 'surrogatepass')).hexdigest()} {counted}"
