"""Records one job's attempts: the intent before a request leaves, and what became of it.

The cost is reserved and the intent durable before a request leaves. A request that may have been billed for nothing is
recorded as in doubt, and the intent of one that was not billed is removed. However a run ends, each job is left in a
state from which the next run continues.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from imagen_async.batch.budget import Budget, Cost
from imagen_async.batch.journal import INTERRUPTED, Doubt, transitions
from imagen_async.batch.records import error_record
from imagen_async.exceptions import Attempt, FailureClass, LimitReachedError
from imagen_async.outcome import Image, Outcome, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagen_async.batch.journal import Entry
    from imagen_async.batch.parts import Part
    from imagen_async.batch.recorder import RunRecorder, SpendingCaps
    from imagen_async.batch.resume import Earlier

__all__ = ["JobRecorder"]


class JobRecorder:
    """Records one job's requests.

    Args:
        run: Journal, files, budget and counters of the run.
        part: The request.
        entry: The job in the journal.
        earlier: The images that earlier runs brought.
    """

    def __init__(self, run: RunRecorder, part: Part, entry: Entry, earlier: Earlier) -> None:
        self._run = run
        self._part = part
        self._entry = entry
        self._earlier = earlier
        self._price = run.spending.price(part.request.model)
        self._attempts = 0
        self._reserved = 0
        """Images that the request in flight may cost."""
        self._bought = 0
        """Images that earlier requests of this run brought."""
        self._sent = False
        self._begun = False
        self._kept: tuple[Image, ...] = ()

    @property
    def expected(self) -> int:
        """How many images the request in flight may bring."""
        return self._reserved

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        """Reserve the cost and make the intent durable.

        Raises:
            LimitReachedError: A cap leaves no room for this request.
            JournalError: The intent cannot be recorded; nothing is sent.
        """
        run, cost = self._run, self._cost(images)
        if not run.budget.reserve(cost):
            raise LimitReachedError(_cap_text(run.spending, run.budget, cost))
        self._reserved, self._attempts = images, attempt
        run.unfinished[self._entry.key] = self
        await run.journal.perform(
            transitions.intent, self._entry, attempt=attempt, images=images, usd=cost.usd, key=idempotency_key
        )
        self._sent = True
        run.progress.in_flight += 1
        run.progress.attempts += 1
        run.progress.retries += attempt > 1

    async def failed(self, attempt: Attempt) -> None:
        """Record the request as in doubt, or remove its intent.

        Raises:
            JournalError: The journal broke.
        """
        self._landed()
        if attempt.failure is FailureClass.AMBIGUOUS:
            self._bought += self._reserved - attempt.doubtful
            await self._doubt(attempt)
        else:
            self._release()
            await self._run.journal.perform(transitions.never_sent, self._entry)

    async def answered(self, images: int) -> None:
        """Release what was not billed; another request follows.

        Raises:
            JournalError: The journal broke.
        """
        self._landed()
        self._bought += images
        self._release(keep=images)
        self._begun = True
        await self._run.journal.perform(transitions.answered, self._entry)

    async def ended(self, outcome: Outcome) -> None:
        """Record how the job ended.

        Raises:
            JournalError: The journal broke.
            StoreError: ``errors.jsonl`` cannot be written.
        """
        run, fresh = self._run, self._fresh(outcome.images)
        self._finish()
        self._release(keep=len(fresh) - self._bought)
        self._count(fresh)
        # A cancelled wait does not undo the step, so nothing about this job may be left to do after it.
        await run.journal.perform(
            transitions.done,
            self._entry,
            status=outcome.status,
            images=run.records(self._part, fresh, outcome),
            attempts=self._attempts,
            # Requests of earlier runs may be in doubt as well.
            error=error_record(self._part, outcome.error, outcome, doubted=self._begun or bool(self._entry.attempts)),
        )
        if outcome.status is not Status.SUCCEEDED:
            await run.errors.append(self._entry.key)

    def keep(self, images: Sequence[Image]) -> None:
        """Remember the images of a job whose task is cancelled; `interrupted` is called afterwards."""
        self._kept = tuple(images)

    async def interrupted(self, reason: str, images: Sequence[Image] = ()) -> None:
        """Record that the run ended while this job was in flight; the next run continues it.

        Args:
            reason: Why.
            images: Its images that were kept.

        Raises:
            JournalError: The journal broke.
        """
        fresh = self._kept = self._kept or tuple(images)
        if self._reserved and not self._sent:
            self._release()
            await self._run.journal.perform(transitions.never_sent, self._entry)
        elif (lost := self._reserved - (len(fresh) - self._bought)) > 0 and self._reserved:
            # Sent, and not refused by the gateway: the missing images were lost on our side.
            await self._doubt(_lost(self._attempts, lost, reason))
        # If a wait above is cancelled, all of it can be repeated; below there is a single step.
        self._finish()
        if self._begun or fresh:
            self._count(fresh)
            await self._run.journal.perform(
                transitions.done,
                self._entry,
                status=INTERRUPTED,
                images=self._run.records(self._part, fresh),
                attempts=self._attempts,
            )

    async def _doubt(self, attempt: Attempt) -> None:
        # It may have been spent, so the reserved cost is not released.
        self._reserved, self._begun = 0, True
        usd = self._cost(attempt.doubtful).usd
        self._run.progress.doubts += 1
        self._run.progress.doubtful_usd += usd
        doubt = Doubt(
            attempt=attempt.number,
            at=attempt.at,
            reason=attempt.error,
            request_id=attempt.request_id,
            images=attempt.doubtful,
            usd=usd,
        )
        await self._run.journal.perform(transitions.doubt, self._entry, doubt)

    def _cost(self, images: int) -> Cost:
        return Cost(images, images * self._price)

    def _release(self, *, keep: int = 0) -> None:
        reserved, self._reserved = self._reserved, 0
        if reserved > keep:
            self._run.budget.release(self._cost(reserved - keep))

    def _fresh(self, images: Sequence[Image]) -> tuple[Image, ...]:
        """Return those of a job's images that this run brought."""
        there = {image.index for image in self._earlier.images}
        return tuple(image for image in images if image.index not in there)

    def _count(self, fresh: Sequence[Image]) -> None:
        progress = self._run.progress
        progress.images += len(fresh)
        progress.bytes += sum(image.size for image in fresh)
        progress.cost_usd += self._cost(len(fresh)).usd

    def _finish(self) -> None:
        self._landed()
        self._run.unfinished.pop(self._entry.key, None)

    def _landed(self) -> None:
        if self._sent:
            self._sent = False
            self._run.progress.in_flight -= 1


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
