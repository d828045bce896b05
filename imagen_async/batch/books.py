"""The books of a run: the journal, the two text files copied from it, the budget and the counters, kept together.

A `Witness` per job enters every attempt before and after it happens: cost is reserved and the intent is durable
before a request leaves; what may have been billed for nothing is a doubt; what certainly was not is taken back.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import attrs

from imagen_async.batch.metadata import ErrorsFile, MetadataFile
from imagen_async.batch.records import error_record, image_record, relative_name
from imagen_async.catalog import Catalog
from imagen_async.exceptions import ImagenError, LimitReachedError
from imagen_async.failure import Attempt, FailureClass
from imagen_async.journal import INTERRUPTED, Doubt, Entry, Journal
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.pacing.budget import Budget, Cost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imagen_async.batch.plan import Part
    from imagen_async.batch.tally import Progress

__all__ = ["Books", "Spending", "Witness"]


@attrs.frozen(kw_only=True)
class Spending:
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

    def highest_price(self) -> float:
        """Return the price that no listed model exceeds."""
        return max((model.price_usd or 0.0 for model in self.catalog.values()), default=0.0)


class Books:
    """Everything that a run writes down; made by `open`.

    Args:
        journal: Open.
        folder: The output folder.
        spending: Caps and prices.
        progress: Counters to keep.
        fsync: Whether what is written survives a loss of power.
    """

    def __init__(self, journal: Journal, folder: Path, *, spending: Spending, progress: Progress, fsync: bool) -> None:
        self.journal = journal
        self.spending = spending
        self.progress = progress
        self.budget = Budget()
        self.errors = ErrorsFile(journal, folder, fsync=fsync)
        self.under_way: dict[bytes, Witness] = {}
        """The jobs whose requests are in flight, by key."""
        self._folder = folder
        self._metadata = MetadataFile(journal, folder, fsync=fsync)
        self._keeping_up: asyncio.Task[None] | None = None

    async def begin(self, failed: Callable[[BaseException], None]) -> None:
        """Bring the files up to date and keep them so; `failed` is told if that is no longer possible.

        Raises:
            StoreError: A file cannot be written.
            JournalError: The journal broke.
        """
        await self._metadata.flush()
        await self.errors.rewrite()
        self.budget = await self._open_budget()
        self._keeping_up = asyncio.create_task(self._metadata.keep_up(), name="imagen-metadata")
        self._keeping_up.add_done_callback(lambda task: _tell(task, failed))

    async def settle(self) -> None:
        """Enter what was in flight when the run ended, and bring the files up to date.

        Raises:
            StoreError: A file cannot be written.
            JournalError: The journal broke.
        """
        if self._keeping_up is not None:
            self._keeping_up.cancel()
            await asyncio.wait([self._keeping_up])
        for witness in list(self.under_way.values()):
            await witness.interrupted("the run was cancelled while the request was in flight")
        await self._metadata.flush()
        await self.errors.rewrite()

    def records(
        self, part: Part, images: tuple[Image, ...], outcome: Outcome | None
    ) -> list[tuple[int, dict[str, object]]]:
        """Make the metadata of some images."""
        return [
            (image.index, image_record(part, image, file_name=self._file_name(image), outcome=outcome))
            for image in images
        ]

    def _file_name(self, image: Image) -> str:
        assert image.path is not None, "a LocalStore gives paths"  # noqa: S101 - its contract
        return relative_name(image.path, str(self._folder))

    async def _open_budget(self) -> Budget:
        spending = self.spending
        if spending.max_images is None and spending.max_usd is None:
            return Budget()
        images, usd = 0, 0.0
        for model, count in (await self.journal.images_by_model()).items():
            images, usd = images + count, usd + count * spending.price(model)
        async for doubt in self.journal.doubts():
            # A doubt does not name its model; a cap that errs must err on the side of less.
            images, usd = images + doubt.n, usd + doubt.n * spending.highest_price()
        return Budget(max_images=spending.max_images, max_usd=spending.max_usd, spent=Cost(images, usd))


class Witness:
    """Enters one job's attempts into the books.

    Args:
        books: Where to.
        part: What is asked.
        entry: The job in the journal.
        n: Images that each attempt asks for.
    """

    def __init__(self, books: Books, part: Part, entry: Entry, *, n: int) -> None:
        self._books = books
        self._part = part
        self._entry = entry
        self._price = books.spending.price(part.request.model)
        self._cost = Cost(n, n * self._price)
        self._attempts = 0
        self._doubted = False
        self._reserved = False

    async def sending(self, attempt: int) -> None:
        """Reserve the cost and make the intent durable.

        Raises:
            LimitReachedError: A cap leaves no room for this request.
            JournalError: The intent cannot be recorded; nothing is sent.
        """
        books = self._books
        if not books.budget.reserve(self._cost):
            raise LimitReachedError(_cap_text(books.spending, books.budget, self._cost))
        self._reserved = True
        self._attempts = attempt
        await books.journal.intent(self._entry, attempt=attempt)
        books.under_way[self._entry.key] = self
        books.progress.in_flight += 1
        books.progress.attempts += 1
        books.progress.retries += attempt > 1

    async def failed(self, attempt: Attempt) -> None:
        """Record a doubt, or take the intent back.

        Raises:
            JournalError: The journal broke.
        """
        if attempt.failure is FailureClass.AMBIGUOUS:
            await self._doubt(attempt)
        else:
            self._release()
            await self._books.journal.never_sent(self._entry)
        self._landed()

    async def ended(self, outcome: Outcome, found: tuple[Image, ...]) -> None:
        """Record how the job ended; `found` are images that an earlier run had committed.

        Raises:
            JournalError: The journal broke.
            StoreError: ``errors.jsonl`` cannot be written.
        """
        books, fresh = self._books, outcome.images[len(found) :]
        self._release(keep=len(fresh))
        await books.journal.done(
            self._entry,
            status=outcome.status,
            images=books.records(self._part, outcome.images, outcome),
            attempts=self._attempts,
            error=error_record(self._part, outcome.error, outcome),
        )
        self._landed()
        books.progress.images += len(fresh)
        books.progress.bytes += sum(image.size for image in fresh)
        books.progress.cost_usd += len(fresh) * self._price
        if outcome.status is not Status.SUCCEEDED:
            await books.errors.append(self._entry.key)

    async def stopped(self, error: ImagenError) -> None:
        """Record that everything was stopped while this job was under way.

        Raises:
            JournalError: The journal broke.
        """
        if self._reserved:
            # Sent, and not refused by the gateway: whatever came was lost on our side.
            await self.interrupted(str(error))
        elif self._doubted:
            await self._interrupt()

    async def interrupted(self, reason: str) -> None:
        """Record a request that was in flight when the run ended.

        Raises:
            JournalError: The journal broke.
        """
        failure = FailureClass.AMBIGUOUS
        await self._doubt(Attempt(number=self._attempts, at=time.time(), elapsed_s=0.0, failure=failure, error=reason))
        await self._interrupt()

    async def _interrupt(self) -> None:
        await self._books.journal.done(self._entry, status=INTERRUPTED, attempts=self._attempts)
        self._landed()

    async def _doubt(self, attempt: Attempt) -> None:
        doubt = Doubt(attempt=attempt.number, at=attempt.at, reason=attempt.error, request_id=attempt.request_id)
        # Spent, as far as anyone can know: what was set aside is not given back.
        self._reserved, self._doubted = False, True
        await self._books.journal.doubt(self._entry, doubt)
        self._books.progress.doubts += 1
        self._books.progress.doubtful_usd += self._cost.usd

    def _release(self, *, keep: int = 0) -> None:
        if self._reserved:
            self._reserved = False
            self._books.budget.release(Cost(self._cost.images - keep, self._cost.usd - keep * self._price))

    def _landed(self) -> None:
        if self._books.under_way.pop(self._entry.key, None) is not None:
            self._books.progress.in_flight -= 1


def _tell(task: asyncio.Task[None], failed: Callable[[BaseException], None]) -> None:
    error = None if task.cancelled() else task.exception()
    if error is not None:
        failed(error)


def _cap_text(spending: Spending, budget: Budget, cost: Cost) -> str:
    caps = [f"{spending.max_images} images"] if spending.max_images is not None else []
    caps += [f"{spending.max_usd:g} USD"] if spending.max_usd is not None else []
    return (
        f"the cap of {' and '.join(caps)} leaves no room for a request of {cost.images}: {budget.images} images, "
        f"{budget.usd:.2f} USD are spent, in doubt or in flight; raise it and run again to go on"
    )
