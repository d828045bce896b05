"""A receipt: what a run leaves in the journal when every job of a file has succeeded.

The next run that is given the same file need not read it row by row: it is known what is in it, and that nothing is
left to do. The same file means the same bytes, read on the same terms by the same version; anything else gives no
receipt that fits, and the file is read as if there were none. That the jobs are still done is the journal's: it drops
the receipt with the first image that is withdrawn.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from imagen_async._version import __version__
from imagen_async.batch.folder import INNER_NAME
from imagen_async.batch.journal import Journal, queries, read_receipt, transitions
from imagen_async.batch.sources.feed import aside
from imagen_async.batch.sources.source import Report, Source
from imagen_async.exceptions import ConfigurationError, JournalError

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.catalog import Catalog

__all__ = ["Receipt", "mark_of", "receipt_of", "report_in"]

_COUNTED = ("rows", "requests", "images", "notes", "models")
"""What a report says of a file without bad rows."""


class Receipt:
    """The receipt of one file in one folder, before and after a run.

    Args:
        source: The file; it can be read more than once.
        folder: The output folder.
        catalog: By whose limits rows are split into requests.
    """

    def __init__(self, source: Source, folder: Path, catalog: Catalog) -> None:
        self._source = source
        self._folder = folder
        self._catalog = catalog
        self._found: str | None = None

    def find(self) -> Report | None:
        """Return what an earlier run found in this very file, if all of it was done; the journal need not be open.

        Raises:
            ConfigurationError: The file cannot be read.
        """
        try:
            text = read_receipt(self._folder / INNER_NAME)
        except JournalError:
            return None  # told when it is opened
        if text is None:
            return None
        report = report_in(text, mark_of(self._source, self._catalog), self._source.name)
        self._found = text if report else None
        return report

    async def holds(self, journal: Journal) -> bool:
        """Say whether what was found is still true, now that nobody else can change it.

        Raises:
            JournalError: The journal broke.
        """
        return self._found is not None and self._found == await journal.perform(queries.receipt)

    async def leave(self, report: Report, journal: Journal) -> None:
        """Note that every job of the file has succeeded; a file that was changed meanwhile gets no receipt.

        Without one the next run only takes longer: nobody's work is called failed for it.
        """
        with contextlib.suppress(ConfigurationError, JournalError):
            mark = await aside(functools.partial(mark_of, self._source, self._catalog))
            await journal.perform(transitions.set_receipt, receipt_of(report, mark))


def mark_of(source: Source, catalog: Catalog) -> str:
    """Return a digest of all that decides which jobs a file comes to.

    Args:
        source: The file; it is read, but not its rows.
        catalog: By whose limits rows are split into requests.

    Raises:
        ConfigurationError: It cannot be read, or has changed since it was read before.
    """
    limits = [repr(model) for model in catalog.values()]
    return _digest(__version__, source.fingerprint(), *limits)


def receipt_of(report: Report, mark: str) -> str:
    """Write the receipt of a file.

    Args:
        report: What was found in it; no row was bad.
        mark: The file's.
    """
    told = attrs.asdict(report, filter=lambda field, _: field.name in _COUNTED, value_serializer=_plain)
    text = json.dumps(told, sort_keys=True)
    return f"{_digest(mark, text)} {text}"


def report_in(receipt: str, mark: str, name: str) -> Report | None:
    """Return what a receipt says of the file with this mark; None if it is another file's, or damaged.

    Args:
        receipt: As the journal has it.
        mark: The file's.
        name: What messages call the file.
    """
    digest, _, text = receipt.partition(" ")
    if digest != _digest(mark, text):
        return None
    return Report(source=name, bad=0, problems=(), **json.loads(text))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()


def _plain(_: object, __: object, value: object) -> object:
    return dict(value) if isinstance(value, Mapping) else value
