"""Keeps the journal of a run, the text files copied from it, the budget, and the counters in step.

A job's cost is reserved and its intent durable before a request leaves. A request that may have been billed for nothing
is recorded as in doubt, and the intent of one that was not billed is removed. However a run ends, each job is left in a
state from which the next run continues.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from imagen_async.batch.budget import Budget, Cost
from imagen_async.batch.journal import INTERRUPTED, Doubt, queries, transitions
from imagen_async.batch.records import error_record, image_record
from imagen_async.batch.text_files import ErrorsFile, MetadataFile
from imagen_async.exceptions import Attempt, FailureClass
from imagen_async.outcome import Image, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from pathlib import Path

    from imagen_async.batch.disk_space import Space
    from imagen_async.batch.intake import Task
    from imagen_async.batch.journal import Journal
    from imagen_async.batch.progress import Progress
    from imagen_async.batch.resume import Earlier
    from imagen_async.catalog import Catalog
    from imagen_async.client.job import Job

__all__ = ["JobRecorder", "RunRecorder"]

EVERY_S = 1.0
"""Seconds between two checks of the disk, and between two updates of ``metadata.jsonl``."""


class RunRecorder:
    """Records a run; `begin` opens it, `settle` closes it.

    Args:
        journal: Open.
        folder: The output folder.
        budget: What the folder may cost.
        catalog: List prices; an unknown price counts as 0.
        progress: Counters to keep.
        fsync: Whether written data survives a loss of power.
    """

    def __init__(
        self, journal: Journal, folder: Path, *, budget: Budget, catalog: Catalog, progress: Progress, fsync: bool
    ) -> None:
        self.journal = journal
        self.folder = folder
        self.budget = budget
        self.progress = progress
        self.errors = ErrorsFile(journal, folder, fsync=fsync)
        self.unfinished: dict[bytes, JobRecorder] = {}
        """The jobs that have sent a request and have not ended, by key."""
        self._catalog = catalog
        self._metadata = MetadataFile(journal, folder, fsync=fsync)
        self._background: list[asyncio.Task[None]] = []

    async def begin(self, failed: Callable[[BaseException], None], space: Space) -> None:
        """Bring the files up to date, keep them so, and watch the disk; an error of that calls `failed`.

        Raises:
            StoreError: A file cannot be written.
            JournalError: The journal broke.
        """
        await self._metadata.flush()
        await self.errors.rewrite()
        if self.budget.capped:
            await self._spend_earlier_costs()
        self._background = [
            asyncio.create_task(_repeat(self._metadata.flush), name="imagen-metadata"),
            asyncio.create_task(
                _repeat(lambda: space.check(sum(job.reserved for job in self.unfinished.values()))), name="imagen-space"
            ),
        ]
        for task in self._background:
            task.add_done_callback(lambda task: _report(task, failed))

    async def settle(self) -> None:
        """Record the requests that were in flight when the run ended, and bring the files up to date.

        Raises:
            StoreError: A file cannot be written.
            JournalError: The journal broke.
        """
        for task in self._background:
            task.cancel()
        if self._background:
            await asyncio.wait(self._background)
        for job in list(self.unfinished.values()):
            await job.interrupted("the run was cancelled while the request was in flight")
        await self._metadata.flush()
        await self.errors.rewrite()

    def price(self, model: str) -> float:
        """Return the price of one image in US dollars."""
        known = self._catalog.get(model)
        return (known.price_usd if known else None) or 0.0

    async def _spend_earlier_costs(self) -> None:
        totals = await self.journal.perform(queries.totals)
        self.budget.spend(Cost(totals.doubtful_images, totals.doubtful_usd))
        for model, count in (await self.journal.perform(queries.images_by_model)).items():
            self.budget.spend(Cost(count, count * self.price(model)))


class JobRecorder:
    """Records one job: an `AttemptRecorder` for the client, and how the job ended.

    Each method raises `JournalError` if the journal broke.

    Args:
        run: Journal, files, budget and counters of the run.
        task: The job.
        earlier: The images that earlier runs brought.
    """

    def __init__(self, run: RunRecorder, task: Task, earlier: Earlier) -> None:
        self.reserved = 0
        """Images that the request in flight may cost."""
        self._run = run
        self._part = task.part
        self._entry = task.entry
        self._earlier = earlier
        self._price = run.price(task.part.request.model)
        self._attempts = 0
        self._bought = 0
        """Images that earlier requests of this run brought."""
        self._in_flight = False
        self._begun = False
        self.job: Job | None = None
        """The job as the client runs it."""

    async def adopt(self, *, missing: int) -> None:
        """Record the images that a killed run published, and settle its request in doubt.

        Args:
            missing: How many of the job's images are not there; with none it has succeeded.
        """
        images = self._records(self._earlier.found)
        await self._run.journal.perform(transitions.adopt, self._entry, images=images, missing=missing)

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        """Reserve the cost and make the intent durable.

        Raises:
            LimitReachedError: A cap leaves no room for this request.
        """
        run, cost = self._run, self._cost(images)
        run.budget.reserve(cost)
        self.reserved, self._attempts = images, attempt
        run.unfinished[self._entry.key] = self
        await run.journal.perform(
            transitions.intent, self._entry, attempt=attempt, images=images, usd=cost.usd, key=idempotency_key
        )
        self._in_flight = True
        run.progress.in_flight += 1
        run.progress.attempts += 1
        run.progress.retries += attempt > 1

    async def failed(self, attempt: Attempt) -> None:
        """Record the request as in doubt, or remove its intent."""
        self._landed()
        if attempt.failure is FailureClass.AMBIGUOUS:
            self._bought += self.reserved - attempt.doubtful
            await self._doubt(
                Doubt(
                    attempt=attempt.number,
                    at=attempt.at,
                    reason=attempt.error,
                    request_id=attempt.request_id,
                    images=attempt.doubtful,
                    usd=self._cost(attempt.doubtful).usd,
                )
            )
        else:
            self._release()
            await self._run.journal.perform(transitions.never_sent, self._entry)

    async def answered(self, images: int) -> None:
        """Release the cost that was not billed; another request follows."""
        self._landed()
        self._bought += images
        self._release(keep=images)
        self._begun = True
        await self._run.journal.perform(transitions.answered, self._entry)

    async def ended(self, outcome: Outcome) -> None:
        """Record how the job ended.

        Raises:
            StoreError: ``errors.jsonl`` cannot be written.
        """
        there = {image.index for image in self._earlier.images}
        fresh = [image for image in outcome.images if image.index not in there]
        self._finish()
        self._release(keep=len(fresh) - self._bought)
        self._count(fresh)
        # Requests of earlier runs may be in doubt as well.
        doubted = self._begun or bool(self._entry.attempts)
        # A cancelled wait does not undo the step, so nothing about this job may be left to do after it.
        await self._run.journal.perform(
            transitions.done,
            self._entry,
            status=outcome.status,
            images=self._records(fresh, outcome),
            attempts=self._attempts,
            error=error_record(self._part, outcome.error, outcome, doubted=doubted),
        )
        if outcome.status is not Status.SUCCEEDED:
            await self._run.errors.append(self._entry.key)

    async def interrupted(self, reason: str) -> None:
        """Record that the run ended while this job was in flight, with its images; the next run continues it."""
        fresh = tuple(self.job.images) if self.job is not None else ()
        if self.reserved and not self._in_flight:
            self._release()
            await self._run.journal.perform(transitions.never_sent, self._entry)
        elif self.reserved and (lost := self.reserved - (len(fresh) - self._bought)) > 0:
            # Sent, and not refused by the gateway: the missing images were lost on our side.
            usd = self._cost(lost).usd
            await self._doubt(Doubt(attempt=self._attempts, at=time.time(), reason=reason, images=lost, usd=usd))
        # If a wait above is cancelled, all of it can be repeated; below there is a single step.
        self._finish()
        if self._begun or fresh:
            self._count(fresh)
            await self._run.journal.perform(
                transitions.done,
                self._entry,
                status=INTERRUPTED,
                images=self._records(fresh),
                attempts=self._attempts,
            )

    async def _doubt(self, doubt: Doubt) -> None:
        # It may have been spent, so the reserved cost is not released.
        self.reserved, self._begun = 0, True
        self._run.progress.doubts += 1
        self._run.progress.doubtful_usd += doubt.usd
        await self._run.journal.perform(transitions.doubt, self._entry, doubt)

    def _records(self, images: Sequence[Image], outcome: Outcome | None = None) -> list[tuple[int, dict[str, object]]]:
        folder = str(self._run.folder)
        return [(image.index, image_record(self._part, image, folder=folder, outcome=outcome)) for image in images]

    def _cost(self, images: int) -> Cost:
        return Cost(images, images * self._price)

    def _release(self, *, keep: int = 0) -> None:
        reserved, self.reserved = self.reserved, 0
        if reserved > keep:
            self._run.budget.release(self._cost(reserved - keep))

    def _count(self, fresh: Sequence[Image]) -> None:
        progress = self._run.progress
        progress.images += len(fresh)
        progress.bytes += sum(image.size for image in fresh)
        progress.cost_usd += self._cost(len(fresh)).usd

    def _finish(self) -> None:
        self._landed()
        self._run.unfinished.pop(self._entry.key, None)

    def _landed(self) -> None:
        if self._in_flight:
            self._in_flight = False
            self._run.progress.in_flight -= 1


async def _repeat(step: Callable[[], Awaitable[object]]) -> None:
    while True:
        await asyncio.sleep(EVERY_S)
        await step()


def _report(task: asyncio.Task[None], failed: Callable[[BaseException], None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        failed(error)
