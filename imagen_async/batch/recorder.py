"""Keeps the journal of a run, the two text files copied from it, the budget and the counters in step.

`RunRecorder` knows which jobs have a request in flight. What is recorded for one job, and when, is in `job_recorder`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

import attrs

from imagen_async.batch.budget import Budget, Cost
from imagen_async.batch.journal import queries, transitions
from imagen_async.batch.metadata import ErrorsFile, MetadataFile
from imagen_async.batch.records import FILTERED_PART, image_record, recorded_image, relative_name
from imagen_async.catalog import Catalog

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from imagen_async.batch.disk_space import Space
    from imagen_async.batch.journal import Entry, Journal
    from imagen_async.batch.parts import Part
    from imagen_async.batch.progress import Progress
    from imagen_async.outcome import Image, Outcome

__all__ = ["RunRecorder", "SpendingCaps"]


@attrs.frozen(kw_only=True)
class SpendingCaps:
    """What a folder may ever buy, and at which prices.

    Attributes:
        max_images: Most images, or None.
        max_usd: Most US dollars, or None.
        catalog: Whose list prices apply; an unknown price counts as nothing.
    """

    max_images: int | None
    max_usd: float | None
    catalog: Catalog

    def price(self, model: str) -> float:
        """Return the price of one image in US dollars."""
        known = self.catalog.get(model)
        return (known.price_usd if known else None) or 0.0


class UnfinishedJob(Protocol):
    """A job that has sent a request and has not ended."""

    @property
    def expected(self) -> int:
        """Images that the request in flight may bring."""

    async def interrupted(self, reason: str, images: Sequence[Image] = ()) -> None:
        """Record that the run ended while the job was in flight."""


class RunRecorder:
    """Records a run; `begin` opens it, `settle` closes it.

    Args:
        journal: Open.
        folder: The output folder.
        spending: Caps and prices.
        progress: Counters to keep.
        fsync: Whether what is written survives a loss of power.
    """

    def __init__(
        self, journal: Journal, folder: Path, *, spending: SpendingCaps, progress: Progress, fsync: bool
    ) -> None:
        self.journal = journal
        self.spending = spending
        self.progress = progress
        self.budget = Budget()
        self.errors = ErrorsFile(journal, folder, fsync=fsync)
        self.unfinished: dict[bytes, UnfinishedJob] = {}
        """The jobs that have sent something and have not ended, by key."""
        self._folder = folder
        self._metadata = MetadataFile(journal, folder, fsync=fsync)
        self._watching: list[asyncio.Task[None]] = []

    async def begin(self, failed: Callable[[BaseException], None], space: Space) -> None:
        """Bring the files up to date, keep them so, and watch the disk; an error of that calls `failed`.

        Raises:
            StoreError: A file cannot be written.
            JournalError: The journal broke.
        """
        await self._metadata.flush()
        await self.errors.rewrite()
        self.budget = await self._open_budget()
        self._watching = [
            asyncio.create_task(self._metadata.keep_up(), name="imagen-metadata"),
            asyncio.create_task(space.watch(self._under_way), name="imagen-space"),
        ]
        for task in self._watching:
            task.add_done_callback(lambda task: _tell(task, failed))

    async def settle(self) -> None:
        """Record the requests that were in flight when the run ended, and bring the files up to date.

        Raises:
            StoreError: A file cannot be written.
            JournalError: The journal broke.
        """
        for task in self._watching:
            task.cancel()
        if self._watching:
            await asyncio.wait(self._watching)
        for job in list(self.unfinished.values()):
            await job.interrupted("the run was cancelled while the request was in flight")
        await self._metadata.flush()
        await self.errors.rewrite()

    async def earlier(self, entry: Entry) -> tuple[Image, ...]:
        """Return the images of a job that earlier runs recorded.

        Raises:
            JournalError: The journal broke.
        """
        if not entry.images:
            return ()
        kept = await self.journal.perform(queries.kept_images, entry.key)
        return tuple(recorded_image(record, index=index, folder=self._folder) for index, record in kept)

    async def withdrawn(self, entry: Entry) -> tuple[Image, ...]:
        """Return the images of a job that were recorded once and whose files were damaged later.

        Raises:
            JournalError: The journal broke.
        """
        kept = await self.journal.perform(queries.withdrawn_images, entry.key)
        return tuple(recorded_image(record, index=index, folder=self._folder) for index, record in kept)

    async def lacks_withdrawn(self, entry: Entry) -> bool:
        """Return whether images of a job were withdrawn and are still missing.

        Raises:
            JournalError: The journal broke.
        """
        there = {image.index for image in await self.earlier(entry)}
        return any(image.index not in there for image in await self.withdrawn(entry))

    async def broke_off(self, entry: Entry) -> bool:
        """Return whether images of a partial job are missing for another reason than the safety filter.

        Raises:
            JournalError: The journal broke.
        """
        found = await self.journal.perform(queries.failure, entry.key)
        return found is not None and (found.error or {}).get("type") != FILTERED_PART

    async def adopt(self, part: Part, entry: Entry, found: tuple[Image, ...], *, missing: int = 0) -> None:
        """Record images that a killed run published, and settle its request in doubt.

        Args:
            part: What was asked.
            entry: The job.
            found: The images.
            missing: How many of the job's images are not there; with none it has succeeded.

        Raises:
            JournalError: The journal broke.
        """
        await self.journal.perform(transitions.adopt, entry, images=self.records(part, found), missing=missing)

    def records(
        self, part: Part, images: tuple[Image, ...], outcome: Outcome | None = None
    ) -> list[tuple[int, dict[str, object]]]:
        """Make the metadata of some images; without `outcome` they were found on disk."""
        return [
            (image.index, image_record(part, image, file_name=self._file_name(image), outcome=outcome))
            for image in images
        ]

    def _under_way(self) -> int:
        return sum(job.expected for job in self.unfinished.values())

    def _file_name(self, image: Image) -> str:
        assert image.path is not None, "a LocalStore gives paths"  # noqa: S101 - its contract
        return relative_name(image.path, str(self._folder))

    async def _open_budget(self) -> Budget:
        spending = self.spending
        if spending.max_images is None and spending.max_usd is None:
            return Budget()
        totals = await self.journal.perform(queries.totals)
        images, usd = totals.doubtful_images, totals.doubtful_usd
        for model, count in (await self.journal.perform(queries.images_by_model)).items():
            images, usd = images + count, usd + count * spending.price(model)
        return Budget(max_images=spending.max_images, max_usd=spending.max_usd, spent=Cost(images, usd))


def _tell(task: asyncio.Task[None], failed: Callable[[BaseException], None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        failed(error)
