"""One job's attempts on their way into the books.

The rules it keeps: cost is reserved and the intent is durable before a request leaves; what may have been billed for
nothing is a doubt; what certainly was not is taken back; however a run ends, each job is left so that the next run
takes it up or leaves it alone, as it should.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import attrs

from imagen_async.batch.records import error_record
from imagen_async.exceptions import LimitReachedError
from imagen_async.failure import Attempt, FailureClass
from imagen_async.journal import INTERRUPTED, Doubt
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.pacing.budget import Budget, Cost

if TYPE_CHECKING:
    from imagen_async.batch.books import Books, Spending
    from imagen_async.batch.plan import Part
    from imagen_async.journal import Entry

__all__ = ["Earlier", "Witness"]


@attrs.frozen
class Earlier:
    """What earlier runs brought of a job.

    Attributes:
        recorded: Images that the journal has.
        found: Images that it has not: committed by a run that did not live to record them.
    """

    recorded: tuple[Image, ...] = ()
    found: tuple[Image, ...] = ()

    @property
    def images(self) -> tuple[Image, ...]:
        """All of them."""
        return (*self.recorded, *self.found)


class Witness:
    """Enters one job's attempts into the books; made in the task that runs the job.

    Args:
        books: Where to.
        part: What is asked.
        entry: The job in the journal.
        earlier: What earlier runs brought of it.
    """

    def __init__(self, books: Books, part: Part, entry: Entry, earlier: Earlier) -> None:
        self._books = books
        self._part = part
        self._entry = entry
        self._earlier = earlier
        self._price = books.spending.price(part.request.model)
        n = part.request.n - len(earlier.images)
        self._cost = Cost(n, n * self._price)
        self._attempts = 0
        self._reserved = False
        self._sent = False
        self._doubted = False
        books.waits(self)

    async def sending(self, attempt: int) -> None:
        """Reserve the cost and make the intent durable.

        Raises:
            LimitReachedError: A cap leaves no room for this request.
            JournalError: The intent cannot be recorded; nothing is sent.
        """
        books = self._books
        books.waits_no_more(self)
        if not books.budget.reserve(self._cost):
            raise LimitReachedError(_cap_text(books.spending, books.budget, self._cost))
        self._reserved = True
        self._attempts = attempt
        books.unfinished[self._entry.key] = self
        await books.journal.intent(self._entry, attempt=attempt, images=self._cost.images, usd=self._cost.usd)
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
            await self._doubt(attempt)
        else:
            self._release()
            await self._books.journal.never_sent(self._entry)
        self._books.waits(self)

    async def ended(self, outcome: Outcome) -> None:
        """Record how the job ended.

        Raises:
            JournalError: The journal broke.
            StoreError: ``errors.jsonl`` cannot be written.
        """
        books, fresh = self._books, outcome.images[len(self._earlier.images) :]
        self._finish()
        self._release(keep=len(fresh))
        # A wait that is cancelled takes nothing back, so nothing about this job may be left to do after it.
        await books.journal.done(
            self._entry,
            status=outcome.status,
            images=[*books.records(self._part, self._earlier.found), *books.records(self._part, fresh, outcome)],
            attempts=self._attempts,
            error=error_record(self._part, outcome.error, outcome),
        )
        books.progress.images += len(fresh)
        books.progress.bytes += sum(image.size for image in fresh)
        books.progress.cost_usd += len(fresh) * self._price
        if outcome.status is not Status.SUCCEEDED:
            await books.errors.append(self._entry.key)

    async def interrupted(self, reason: str) -> None:
        """Record that the run ended while this job was under way; the next one takes it up by itself.

        Raises:
            JournalError: The journal broke.
        """
        sent = self._sent
        self._finish()
        if self._reserved and not sent:
            self._release()
            await self._books.journal.never_sent(self._entry)
        elif self._reserved:
            # Sent, and not refused by the gateway: whatever came was lost on our side.
            failure = FailureClass.AMBIGUOUS
            await self._doubt(
                Attempt(number=self._attempts, at=time.time(), elapsed_s=0.0, failure=failure, error=reason)
            )
        if self._doubted:
            await self._books.journal.done(self._entry, status=INTERRUPTED, attempts=self._attempts)

    async def _doubt(self, attempt: Attempt) -> None:
        doubt = Doubt(
            attempt=attempt.number,
            at=attempt.at,
            reason=attempt.error,
            request_id=attempt.request_id,
            images=self._cost.images,
            usd=self._cost.usd,
        )
        # Spent, as far as anyone can know: what was set aside is not given back.
        self._reserved, self._doubted = False, True
        self._books.progress.doubts += 1
        self._books.progress.doubtful_usd += self._cost.usd
        await self._books.journal.doubt(self._entry, doubt)

    def _release(self, *, keep: int = 0) -> None:
        if self._reserved:
            self._reserved = False
            self._books.budget.release(Cost(self._cost.images - keep, self._cost.usd - keep * self._price))

    def _finish(self) -> None:
        self._landed()
        self._books.waits_no_more(self)
        self._books.unfinished.pop(self._entry.key, None)

    def _landed(self) -> None:
        if self._sent:
            self._sent = False
            self._books.progress.in_flight -= 1


def _cap_text(spending: Spending, budget: Budget, cost: Cost) -> str:
    caps = [f"{spending.max_images} images"] if spending.max_images is not None else []
    caps += [f"{spending.max_usd:g} USD"] if spending.max_usd is not None else []
    return (
        f"the cap of {' and '.join(caps)} leaves no room for a request of {cost.images}: {budget.images} images, "
        f"{budget.usd:.2f} USD are spent, in doubt or in flight; raise it and run again to go on"
    )
