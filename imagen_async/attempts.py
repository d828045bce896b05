"""One request, tried until it is answered or not worth another attempt.

Each attempt takes a slot, tells its witness, sends, and receives; between attempts nothing is held. Whether to try
again and how long to wait is `pacing`'s arithmetic, what a failure means is `wire`'s; tenacity runs the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from imagen_async.exceptions import (
    AuthenticationError,
    FilteredError,
    GatewayError,
    ImagenError,
    JournalError,
    LimitReachedError,
    ModelNotFoundError,
    PermissionDeniedError,
    ProtocolError,
    StoreError,
    printable,
)
from imagen_async.failure import Attempt, FailureClass
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.receive import Caps, Receiver
from imagen_async.request import ImageRequest
from imagen_async.stores import Store
from imagen_async.turns import Turn, Turns
from imagen_async.wire.body import GENERATIONS
from imagen_async.wire.errors import failure_class, gateway_error, request_id

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from imagen_async.pacing.backoff import RetryPolicy
    from imagen_async.slots import Slots
    from imagen_async.transport import Answering, Transport
    from imagen_async.wire.answer import Answer
    from imagen_async.writers import Writers

__all__ = ["Attempts", "Job", "Witness", "stops_everything"]

_ERROR_BODY = 64 * 1024
"""Bytes of an error's body that are worth reading."""


_STOPPING = (
    AuthenticationError,
    PermissionDeniedError,
    ModelNotFoundError,
    LimitReachedError,
    StoreError,
    JournalError,
)


class Witness(Protocol):
    """Is told of every attempt of one job, before and after; what it raises ends the job."""

    async def sending(self, attempt: int) -> None:
        """Attempt number `attempt` is about to be sent."""

    async def failed(self, attempt: Attempt) -> None:
        """An attempt has failed."""


class Unwitnessed:
    """Is told, and does nothing."""

    async def sending(self, attempt: int) -> None:
        """Let it be sent."""

    async def failed(self, attempt: Attempt) -> None:
        """Let it be tried again."""


@attrs.define(kw_only=True)
class Job:
    """One request on its way to an outcome.

    Attributes:
        request: As it was given; valid.
        body: Its bytes on the wire, the same for each attempt.
        store: Where its images go.
        image_id: What its images are called.
        idempotency_key: The same for each attempt.
        first_index: Index of its first image.
        notes: What the validation noted.
        witness: Is told of every attempt.
        sha256: Whether to make a digest of each image.
        attempts: The attempts that failed, oldest first.
        started: When the first attempt had its slot, in the clock's seconds; None before.
        failure: The error of the first attempt, until tenacity has been told of it.
    """

    request: ImageRequest
    body: bytes
    store: Store
    image_id: str
    idempotency_key: str
    first_index: int = 0
    notes: tuple[str, ...] = ()
    witness: Witness = attrs.field(factory=Unwitnessed)
    sha256: bool = False
    attempts: list[Attempt] = attrs.field(factory=list)
    started: float | None = None
    failure: ImagenError | None = None


def stops_everything(error: ImagenError) -> bool:
    """Tell whether no other job can succeed either: the key, the model, a cap, the disk or the journal fails."""
    return isinstance(error, _STOPPING)


class Attempts:
    """Runs jobs over one transport.

    Args:
        transport: Sends.
        slots: Permit to send.
        writers: Threads for the heavy work.
        policy: When to try again.
        caps: What no answer may exceed.
        max_reading: Most bodies that are read at once, slow ones aside.
        clock: Gives monotonic seconds.
        wall_clock: Gives seconds since the epoch.
        sleep: Waits for some seconds.
        draw: Gives a random number, 0 to 1.
    """

    def __init__(
        self,
        transport: Transport,
        slots: Slots,
        writers: Writers,
        *,
        policy: RetryPolicy,
        caps: Caps,
        max_reading: int,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._slots = slots
        self._writers = writers
        self._policy = policy
        self._caps = caps
        self._turns = Turns(max_reading, of=slots.size)
        self._clock = clock
        self._wall_clock = wall_clock
        self._draw = draw
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, ImagenError)),
            stop=self._stop,
            wait=self._wait,
            sleep=sleep,
            reraise=True,
        )

    async def run(self, job: Job) -> Outcome:
        """Bring a job to its outcome.

        Raises:
            ImagenError: The error of the last attempt, with all attempts noted on it.
        """
        try:
            try:
                return await self._attempt(job)
            except ImagenError as error:
                job.failure = error
            # Most jobs need one attempt: tenacity, which costs half as much as sending, is asked from the first
            # failure on.
            outcome: Outcome = await self._retrying(self._next_attempt, job)
        except ImagenError as error:
            error.attempts = tuple(job.attempts)
            raise
        return outcome

    async def outcome(self, job: Job) -> Outcome:
        """Bring a job to its outcome; an error is an outcome as well."""
        try:
            return await self.run(job)
        except ImagenError as error:
            return failed_outcome(job, error, elapsed_s=self._elapsed(job))

    def _elapsed(self, job: Job) -> float:
        return 0.0 if job.started is None else self._clock() - job.started

    async def _next_attempt(self, job: Job) -> Outcome:
        """Fail as the first attempt did, and then try again."""
        failure, job.failure = job.failure, None
        if failure is not None:
            raise failure
        return await self._attempt(job)

    async def _attempt(self, job: Job) -> Outcome:
        async with self._slots:
            began = self._clock()
            if job.started is None:
                job.started = began
            await job.witness.sending(len(job.attempts) + 1)
            try:
                return await self._exchange(job)
            except ImagenError as error:
                await self._note(job, error, self._clock() - began)
                raise

    async def _note(self, job: Job, error: ImagenError, elapsed: float) -> None:
        if isinstance(error, GatewayError) and error.retry_after is not None:
            self._slots.hold(error.retry_after)
        failure = failure_class(error)
        if failure is not None:
            attempt = Attempt(
                number=len(job.attempts) + 1,
                at=self._wall_clock(),
                elapsed_s=elapsed,
                failure=failure,
                error=printable(f"{type(error).__name__}: {error}"),
                request_id=error.request_id if isinstance(error, GatewayError | ProtocolError) else None,
            )
            job.attempts.append(attempt)
            await job.witness.failed(attempt)

    async def _exchange(self, job: Job) -> Outcome:
        headers = {"Idempotency-Key": job.idempotency_key}
        async with self._transport.post(GENERATIONS, job.body, headers) as answering:
            if answering.status != 200:  # noqa: PLR2004 - the contract's one good status
                # The body has no name here, which a traceback with locals would show: some gateways repeat the key.
                raise gateway_error(
                    answering.status, answering.headers, await answering.head(_ERROR_BODY), now=self._wall_clock()
                )
            # What waits here has its headers only: a body that nobody reads costs a socket buffer, not an image.
            async with self._turns.turn(answering.read_at_once) as turn:
                return await self._receive(job, answering, turn)

    async def _receive(self, job: Job, answering: Answering, turn: Turn) -> Outcome:
        request = job.request
        receiver = Receiver(
            job.store,
            self._writers,
            job_id=job.image_id,
            indices=range(job.first_index, job.first_index + request.n),
            wish=request.output_format,
            caps=self._caps,
            sha256=job.sha256,
        )
        named = request_id(answering.headers)
        try:
            while chunk := await answering.read():
                turn.moved(len(chunk))
                await receiver.feed(chunk, together=turn.span)
                turn.wait()
            turn.end()
            # An attempt asks for all images again, so those beside a broken one must not be committed here.
            if receiver.fault is not None:
                raise receiver.fault
            received = await receiver.close()
            if received.fault is not None and not received.images:
                raise received.fault
        except ProtocolError as error:
            error.request_id = named
            raise
        finally:
            await receiver.discard()
        if not received.images:
            raise _filtered(received.answer, answering.status, named)
        return self._succeeded(job, received.images, created=received.answer.created, named=named)

    def _succeeded(self, job: Job, images: tuple[Image, ...], *, created: int | None, named: str | None) -> Outcome:
        return Outcome(
            request=job.request,
            status=Status.SUCCEEDED if len(images) == job.request.n else Status.PARTIAL,
            images=images,
            attempts=tuple(job.attempts),
            notes=job.notes,
            created=created,
            request_id=named,
            elapsed_s=self._elapsed(job),
        )

    def _stop(self, state: RetryCallState) -> bool:
        job, error = _of(state)
        counted = sum(attempt.failure is not FailureClass.REFUSED for attempt in job.attempts)
        return not self._policy.tries_again(
            failure_class(error),
            attempts=counted,
            elapsed=self._elapsed(job) + state.upcoming_sleep,
            should_retry=error.should_retry if isinstance(error, GatewayError) else None,
        )

    def _wait(self, state: RetryCallState) -> float:
        job, error = _of(state)
        return self._policy.delay(
            failures=len(job.attempts),
            draw=self._draw(),
            retry_after=error.retry_after if isinstance(error, GatewayError) else None,
        )


def _filtered(answer: Answer, status: int, named: str | None) -> FilteredError:
    told = (item.details.get("raiFilteredReason") for item in answer.items)
    reasons = "; ".join(dict.fromkeys(str(reason) for reason in told if reason))
    message = "the safety filter took all images: the answer has none"
    return FilteredError(f"{message}: {printable(reasons)}" if reasons else message, status=status, request_id=named)


def failed_outcome(job: Job, error: ImagenError, *, elapsed_s: float) -> Outcome:
    """Make the outcome of a job that ended with an error."""
    return Outcome(
        request=job.request,
        status=_status(job, error),
        error=error,
        attempts=tuple(job.attempts),
        notes=job.notes,
        request_id=error.request_id if isinstance(error, GatewayError | ProtocolError) else None,
        elapsed_s=elapsed_s,
    )


def _status(job: Job, error: ImagenError) -> Status:
    if isinstance(error, FilteredError):
        return Status.FILTERED
    doubtful = any(attempt.failure is FailureClass.AMBIGUOUS for attempt in job.attempts)
    return Status.IN_DOUBT if doubtful else Status.FAILED


def _of(state: RetryCallState) -> tuple[Job, ImagenError]:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, ImagenError), "tenacity asks only after one of ours"  # noqa: S101 - see retry= above
    job: Job = state.args[0]
    return job, error
