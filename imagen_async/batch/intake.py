"""Reads the input of a batch: rows, split into jobs and looked up in the journal.

Rows are read when the stream has room for their jobs, and in groups, because the journal looks up groups faster.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import aclosing
from itertools import islice
from typing import TYPE_CHECKING

import attrs

from imagen_async.batch.journal import Admission, Entry, Journal, admission
from imagen_async.batch.parts import Part, digest, split
from imagen_async.batch.sources.feed import Feed
from imagen_async.batch.sources.rows import BadRow, Row, Terms, as_row, as_rows
from imagen_async.batch.sources.source import Source
from imagen_async.exceptions import InvalidInputError
from imagen_async.request import ImageRequest

if TYPE_CHECKING:
    from imagen_async.batch.progress import Progress
    from imagen_async.batch.text_files import InvalidFile
    from imagen_async.catalog import Catalog

__all__ = ["Intake", "Item", "Task"]

Item = str | ImageRequest | Row
"""One element of the input of a batch."""

_GROUP = 128
"""Most rows of a source that are looked up together."""

_SMALL_GROUP = 16
"""Most items of an iterable that are looked up together; the event loop waits meanwhile."""


@attrs.frozen
class Task:
    """One job, and its entry in the journal."""

    part: Part
    entry: Entry


class Intake:
    """Reads a batch's input.

    Args:
        requests: The input.
        catalog: Limits of the models.
        journal: Has the jobs of earlier runs.
        progress: Counts the skipped rows, and gets the number of jobs at the end of the input.
        invalid: Lists invalid rows; None if the first of them stops the batch.
    """

    def __init__(
        self,
        requests: Source | Iterable[Item] | AsyncIterable[Item],
        *,
        catalog: Catalog,
        journal: Journal,
        progress: Progress,
        invalid: InvalidFile | None,
    ) -> None:
        self._requests = requests
        self._catalog = catalog
        self._journal = journal
        self._progress = progress
        self._invalid = invalid
        self.planned: int | None = None
        """How many jobs the input has, once it has been read to its end."""

    async def tasks(self) -> AsyncGenerator[Task, None]:
        """Iterate over the jobs, in the order of the input.

        Raises:
            InvalidInputError: A row is invalid; the jobs before it have been returned.
            ConfigurationError: The rest of the input cannot be read, or the input has changed.
            JournalError: The journal broke.
        """
        planned = 0
        async with aclosing(self._rows()) as groups:
            async for rows in groups:
                parts = [part for row in rows for part in split(row, self._catalog)]
                planned += len(parts)
                entries = await self._journal.perform(admission.admit, [_admission(part) for part in parts])
                for part, entry in zip(parts, entries, strict=True):
                    yield Task(part, entry)
        self.planned = self._progress.total = planned

    async def _rows(self) -> AsyncGenerator[list[Row], None]:
        async with aclosing(self._groups()) as groups:
            async for group in groups:
                good: list[Row] = []
                for row in group:
                    if isinstance(row, Row):
                        good.append(row)
                    elif self._invalid is not None:
                        self._progress.invalid += 1
                        self._invalid.add(row)
                    else:
                        yield good
                        name = self._requests.name if isinstance(self._requests, Source) else "the requests"
                        raise InvalidInputError(name, [(row.line, row.problems)], 1)
                yield good

    def _groups(self) -> AsyncGenerator[list[Row | BadRow], None]:
        if isinstance(self._requests, Source):
            return Feed(self._requests.rows).groups(_GROUP)
        terms = Terms(catalog=self._catalog)
        if isinstance(self._requests, AsyncIterable):
            return _singly(self._requests, terms)
        return _together(iter(self._requests), terms)


async def _together(items: Iterator[Item], terms: Terms) -> AsyncGenerator[list[Row | BadRow], None]:
    rows = as_rows(items, terms)
    more = True
    while more:
        group: list[Row | BadRow] = []
        try:
            for row in islice(rows, _SMALL_GROUP):
                group.append(row)  # noqa: PERF402 - rows before an error are used
        except Exception:
            yield group
            raise
        yield group
        more = len(group) == _SMALL_GROUP


async def _singly(items: AsyncIterable[Item], terms: Terms) -> AsyncGenerator[list[Row | BadRow], None]:
    line = 0
    iterator = aiter(items)
    try:
        async for item in iterator:
            line += 1
            yield [as_row(item, line, terms)]
    finally:
        # As a stream does with its source: close a generator now, not when it is collected.
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()


def _admission(part: Part) -> Admission:
    request = part.request
    # Each part of a row is a job, with a name of its own.
    name = request.id if request.id is None or part.part == 0 else f"{request.id}_p{part.part + 1}"
    return Admission(digest(request), id=request.id, stem=name, line=part.row.line, n=request.n)
