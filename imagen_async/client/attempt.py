"""One attempt of a job: a slot, a word to its witness, the exchange, and what is to be learned from it.

The order is what counts. The intent is durable before anything leaves; nothing leaves in a pause, not even with a slot;
what stops everything is made known before the slot is free; and everybody hears of a refusal before it is written down.
Whether to try again is not decided here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from imagen_async.events import Filtered, Listeners, Saved, Started, Stopped
from imagen_async.exceptions import (
    Attempt,
    FailureClass,
    GatewayError,
    ImagenError,
    JournalError,
    LimitReachedError,
    OutageError,
    ProtocolError,
    StoreError,
    TimeoutExceededError,
    printable,
)
from imagen_async.limiter.limiter import NoTimeLeft
from imagen_async.limiter.permit import Verdict
from imagen_async.wire.errors import failure_class

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagen_async.client.exchange import Exchange
    from imagen_async.client.job import Job
    from imagen_async.client.stop import Waiting
    from imagen_async.events import Event
    from imagen_async.limiter.limiter import Lease, Limiter

__all__ = ["Sending", "stops_everything"]

_STOPPING = (LimitReachedError, StoreError, JournalError, OutageError)


def stops_everything(error: ImagenError) -> bool:
    """Tell whether no other job can succeed either: the key, the model, the gateway, a cap, the disk or the journal."""
    return isinstance(error, _STOPPING) or failure_class(error) is FailureClass.FATAL


class Sending:
    """Makes attempts, one at a time for each job.

    Args:
        exchange: Sends one request and takes its answer.
        slots: Permit to send.
        max_elapsed: Seconds after its first attempt from which a job is not tried again.
        listeners: Hear of what happens.
        clock: Gives monotonic seconds.
        wall_clock: Gives seconds since the epoch.
    """

    def __init__(
        self,
        exchange: Exchange,
        slots: Limiter,
        *,
        max_elapsed: float,
        listeners: Listeners,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._exchange = exchange
        self._slots = slots
        self._max_elapsed = max_elapsed
        self._listeners = listeners
        self._clock = clock
        self._wall_clock = wall_clock

    async def send(self, job: Job, waiting: Waiting) -> None:
        """Ask for what a job misses, as soon as that may be.

        Args:
            job: The job; what came, and what failed, is noted on it.
            waiting: Counts it as waiting until a slot is there.

        Raises:
            ImagenError: The attempt failed, or may not be made.
            JobStopped: The job was let go.
        """
        while not await self._left(job, waiting):
            pass

    async def _left(self, job: Job, waiting: Waiting) -> bool:
        """Send a request as soon as it may leave; say whether it has."""
        waiting.begin()
        try:
            slot = await self._slot(job)
        except OutageError as error:
            waiting.end()
            self._stop_if_fatal(job, error)
            raise
        waiting.end()
        with slot:
            try:
                return await self._use(slot, job)
            except ImagenError as error:
                self._stop_if_fatal(job, error)
                raise

    async def _use(self, slot: Lease, job: Job) -> bool:
        began = self._begin(job)
        try:
            job.requests += 1
            await job.witness.sending(job.requests, len(job.missing))
            if slot.paused() > 0 or _forbids(job.withdrawal.cause):
                # That began while the intent was written down: nobody may leave, not even with a slot.
                await self._take_back(job)
                return False
            self.tell(Started, job, attempt=job.requests, images=len(job.missing))
            await self._exchange_for(job)
        except ImagenError as error:
            job.failure = error
            await self._note(job, error, slot, self._clock() - began)
            raise
        slot.end(Verdict.ACCEPTED, paid=job.paid)
        job.failure, job.paid = None, 0
        return True

    async def _take_back(self, job: Job) -> None:
        unsent = Attempt(
            number=job.requests,
            at=self._wall_clock(),
            elapsed_s=0.0,
            failure=FailureClass.NEVER_SENT,
            error="a pause or a stop began before it could leave",
        )
        await job.witness.failed(unsent)
        job.requests -= 1

    def end(self, job: Job) -> float:
        """Return when a job's time is over, in the clock's seconds; infinity before its first request."""
        return math.inf if job.started is None else job.started + self._max_elapsed

    def tell(self, kind: Callable[..., Event], job: Job, **facts: object) -> None:
        """Tell the listeners that something has happened to a job."""
        if self._listeners:
            self._listeners.tell(kind(at=self._wall_clock(), job=job.image_id, request=job.request, **facts))

    async def _slot(self, job: Job) -> Lease:
        job.paid = job.paid or self._pay(job)
        try:
            return await self._slots.take(images=len(job.missing), deadline=self._deadline(job))
        except NoTimeLeft:
            assert job.failure is not None, "a first attempt waits for as long as it takes"  # noqa: S101 - `_deadline`
            raise job.failure from None

    def _begin(self, job: Job) -> float:
        now = self._clock()
        if job.started is None:
            job.started = now
        if job.failure is not None and now >= self.end(job):
            raise job.failure
        return now

    def _pay(self, job: Job) -> int:
        """Pay for a retry after a failure that may be an outage's; a refusal costs nobody anything."""
        if job.failure is None:
            return 0
        if failure_class(job.failure) not in {FailureClass.NEVER_SENT, FailureClass.AMBIGUOUS}:
            return 0
        return self._slots.pool.pay(timed_out=isinstance(job.failure, TimeoutExceededError))

    def _deadline(self, job: Job) -> float:
        """Return when a retry has no point any more; what did not fail has time."""
        return self.end(job) if job.failure is not None else math.inf

    async def _exchange_for(self, job: Job) -> None:
        before = len(job.images)
        try:
            await self._exchange.run(job, on_trouble=lambda error: self._stop_if_fatal(job, error))
        finally:
            kept = tuple(job.images[before:])
            job.brought = len(kept)
            if kept:
                self.tell(Saved, job, images=kept)
        if job.missing:
            self.tell(Filtered, job, missing=len(job.missing), reasons=job.reasons)

    async def _note(self, job: Job, error: ImagenError, slot: Lease, elapsed: float) -> None:
        """Give the slot back with what is to be learned from a failed attempt, and write it down."""
        self._stop_if_fatal(job, error)
        job.paid = 0
        failure = failure_class(error)
        if failure is not None:
            # First: everybody is to know at once.
            self._give_back(slot, error, failure)
            attempt = Attempt(
                number=job.requests,
                at=self._wall_clock(),
                elapsed_s=elapsed,
                failure=failure,
                error=printable(f"{type(error).__name__}: {error}"),
                request_id=getattr(error, "request_id", None),
                doubtful=len(job.missing) if failure is FailureClass.AMBIGUOUS else 0,
            )
            job.attempts.append(attempt)
            await job.witness.failed(attempt)

    def _give_back(self, slot: Lease, error: ImagenError, failure: FailureClass) -> None:
        lost = failure in {FailureClass.NEVER_SENT, FailureClass.AMBIGUOUS}
        slot.end(
            _verdict(error, failure),
            retry_after=error.retry_after if isinstance(error, GatewayError) else None,
            failure=printable(f"{type(error).__name__}: {error}", 200) if lost else None,
        )

    def _stop_if_fatal(self, job: Job, error: ImagenError) -> None:
        # Before the slot is free: nobody who waits may use it.
        if not stops_everything(error):
            return
        first = not job.withdrawal.withdrawn
        job.withdrawal.withdraw(error)
        if first and self._listeners:
            self._listeners.tell(Stopped(at=self._wall_clock(), error=error))


def _forbids(cause: BaseException | None) -> bool:
    """Whether not even those may leave whose intent is written down; a cap has room for all of them."""
    return cause is not None and not isinstance(cause, LimitReachedError)


def _verdict(error: ImagenError, failure: FailureClass) -> Verdict:
    if failure is FailureClass.REFUSED:
        return Verdict.REFUSED
    if failure is FailureClass.NEVER_SENT:
        return Verdict.NOTHING
    # A request that is wrong, and one whose answer is, were worked on all the same.
    overloaded = failure is FailureClass.AMBIGUOUS and not isinstance(error, ProtocolError)
    return Verdict.OVERLOADED if overloaded else Verdict.ACCEPTED
