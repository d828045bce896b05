"""One job's attempts on their way into the books.

The rules it keeps: cost is reserved and the intent is durable before a request leaves; what may have been billed for
nothing is a doubt; what certainly was not is taken back; however a run ends, each job is left so that the next run
takes it up or leaves it alone, as it should.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from imagen_async.batch.budget import Budget, Cost
from imagen_async.batch.journal import INTERRUPTED, Doubt
from imagen_async.batch.records import error_record
from imagen_async.exceptions import Attempt, FailureClass, LimitReachedError
from imagen_async.outcome import Image, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagen_async.batch.journal import Entry
    from imagen_async.batch.parts import Part
    from imagen_async.batch.recorder import RunRecorder, SpendingCaps

__all__ = ["Earlier", "JobRecorder"]


@attrs.frozen
class Earlier:
    """What earlier runs brought of a job.

    Attributes:
        recorded: Images that the journal has.
        found: Images that it has not: committed by a run that did not live to record them.
        filtered: Places of images that the safety filter took, while others are asked for again.
    """

    recorded: tuple[Image, ...] = ()
    found: tuple[Image, ...] = ()
    filtered: frozenset[int] = frozenset()

    @property
    def images(self) -> tuple[Image, ...]:
        """All of them."""
        return (*self.recorded, *self.found)


class JobRecorder:
    """Enters one job's requests into the books.

    Args:
        books: Where to.
        part: What is asked.
        entry: The job in the journal.
        earlier: What earlier runs brought of it.
    """

    def __init__(self, books: RunRecorder, part: Part, entry: Entry, earlier: Earlier) -> None:
        self._books = books
        self._part = part
        self._entry = entry
        self._earlier = earlier
        self._price = books.spending.price(part.request.model)
        self._attempts = 0
        self._reserved = 0
        """Images that the request under way may cost."""
        self._bought = 0
        """Images that came with requests before it."""
        self._sent = False
        self._begun = False
        self._kept: tuple[Image, ...] = ()

    @property
    def expected(self) -> int:
        """How many images the request under way may bring."""
        return self._reserved

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        """Reserve the cost and make the intent durable.

        Raises:
            LimitReachedError: A cap leaves no room for this request.
            JournalError: The intent cannot be recorded; nothing is sent.
        """
        books, cost = self._books, self._cost(images)
        if not books.budget.reserve(cost):
            raise LimitReachedError(_cap_text(books.spending, books.budget, cost))
        self._reserved, self._attempts = images, attempt
        books.unfinished[self._entry.key] = self
        await books.journal.intent(self._entry, attempt=attempt, images=images, usd=cost.usd, key=idempotency_key)
        self._sent = True
        books.progress.in_flight += 1
        books.progress.attempts += 1
        books.progress.retries += attempt > 1

    async def failed(self, attempt: Attempt) -> None:
        """Record a doubt, or take the intent back.

        Raises:
            JournalError: The journal broke.
        """
        self._landed()
        if attempt.failure is FailureClass.AMBIGUOUS:
            self._bought += self._reserved - attempt.doubtful
            await self._doubt(attempt)
        else:
            self._release()
            await self._books.journal.never_sent(self._entry)

    async def answered(self, images: int) -> None:
        """Give back what was not billed; another request will follow.

        Raises:
            JournalError: The journal broke.
        """
        self._landed()
        self._bought += images
        self._release(keep=images)
        self._begun = True
        await self._books.journal.answered(self._entry)

    async def ended(self, outcome: Outcome) -> None:
        """Record how the job ended.

        Raises:
            JournalError: The journal broke.
            StoreError: ``errors.jsonl`` cannot be written.
        """
        books, fresh = self._books, self._fresh(outcome.images)
        self._finish()
        self._release(keep=len(fresh) - self._bought)
        self._count(fresh)
        # A wait that is cancelled takes nothing back, so nothing about this job may be left to do after it.
        await books.journal.done(
            self._entry,
            status=outcome.status,
            images=books.records(self._part, fresh, outcome),
            attempts=self._attempts,
            # What an earlier run sent may be in doubt as well.
            error=error_record(self._part, outcome.error, outcome, doubted=self._begun or bool(self._entry.attempts)),
        )
        if outcome.status is not Status.SUCCEEDED:
            await books.errors.append(self._entry.key)

    def keep(self, images: Sequence[Image]) -> None:
        """Note what was kept of a job whose task is cancelled; `interrupted` is called when there is time."""
        self._kept = tuple(images)

    async def interrupted(self, reason: str, images: Sequence[Image] = ()) -> None:
        """Record that the run ended while this job was under way; the next one takes it up by itself.

        Args:
            reason: Why.
            images: What was kept of it.

        Raises:
            JournalError: The journal broke.
        """
        fresh = self._kept = self._kept or tuple(images)
        if self._reserved and not self._sent:
            self._release()
            await self._books.journal.never_sent(self._entry)
        elif (lost := self._reserved - (len(fresh) - self._bought)) > 0 and self._reserved:
            # Sent, and not refused by the gateway: whatever did not come was lost on our side.
            await self._doubt(_lost(self._attempts, lost, reason))
        # Until here it can be done once more, should the wait be cancelled; from here on there is one thing to do.
        self._finish()
        if self._begun or fresh:
            self._count(fresh)
            await self._books.journal.done(
                self._entry,
                status=INTERRUPTED,
                images=self._books.records(self._part, fresh),
                attempts=self._attempts,
            )

    async def _doubt(self, attempt: Attempt) -> None:
        # Spent, as far as anyone can know: what was set aside is not given back.
        self._reserved, self._begun = 0, True
        usd = self._cost(attempt.doubtful).usd
        self._books.progress.doubts += 1
        self._books.progress.doubtful_usd += usd
        doubt = Doubt(
            attempt=attempt.number,
            at=attempt.at,
            reason=attempt.error,
            request_id=attempt.request_id,
            images=attempt.doubtful,
            usd=usd,
        )
        await self._books.journal.doubt(self._entry, doubt)

    def _cost(self, images: int) -> Cost:
        return Cost(images, images * self._price)

    def _release(self, *, keep: int = 0) -> None:
        reserved, self._reserved = self._reserved, 0
        if reserved > keep:
            self._books.budget.release(self._cost(reserved - keep))

    def _fresh(self, images: Sequence[Image]) -> tuple[Image, ...]:
        """Return those of a job's images that this run brought."""
        there = {image.index for image in self._earlier.images}
        return tuple(image for image in images if image.index not in there)

    def _count(self, fresh: Sequence[Image]) -> None:
        progress = self._books.progress
        progress.images += len(fresh)
        progress.bytes += sum(image.size for image in fresh)
        progress.cost_usd += self._cost(len(fresh)).usd

    def _finish(self) -> None:
        self._landed()
        self._books.unfinished.pop(self._entry.key, None)

    def _landed(self) -> None:
        if self._sent:
            self._sent = False
            self._books.progress.in_flight -= 1


def _lost(number: int, images: int, reason: str) -> Attempt:
    return Attempt(
        number=number, at=time.time(), elapsed_s=0.0, failure=FailureClass.AMBIGUOUS, error=reason, doubtful=images
    )


def _cap_text(spending: SpendingCaps, budget: Budget, cost: Cost) -> str:
    caps = [f"{spending.max_images} images"] if spending.max_images is not None else []
    caps += [f"{spending.max_usd:g} USD"] if spending.max_usd is not None else []
    return (
        f"the cap of {' and '.join(caps)} leaves no room for a request of {cost.images}: {budget.images} images, "
        f"{budget.usd:.2f} USD are spent, in doubt or in flight; raise it and run again to go on"
    )
