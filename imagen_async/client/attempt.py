"""One attempt of a job: a permit, a recorded intent, the request, its response, and what the limiter learns from it.

The order matters. The intent is durable before anything leaves; nothing leaves during a pause, not even with a permit;
an error that stops everything stops the scope before the permit is released; and the limiter hears of a refusal before
the refusal is recorded. Whether to try again is decided in `retry`.
"""

from __future__ import annotations

import asyncio
import math
from contextlib import suppress
from typing import TYPE_CHECKING

from imagen_async.events import Filtered, Listeners, Saved, Started
from imagen_async.exceptions import (
    Attempt,
    FailureClass,
    GatewayError,
    ImagenError,
    ProtocolError,
    TimeoutExceededError,
    printable,
)
from imagen_async.limiter.limiter import NoTimeLeft
from imagen_async.limiter.permit import Verdict
from imagen_async.receiver.receiver import Receiver
from imagen_async.wire.errors import failure_class, gateway_error
from imagen_async.wire.families.imagen import GENERATIONS
from imagen_async.wire.response import request_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagen_async.client.job import Job
    from imagen_async.events import Event
    from imagen_async.limiter.limiter import Lease, Limiter
    from imagen_async.receiver.receiver import ReceiverContext
    from imagen_async.transport.transport import Response, Transport

__all__ = ["AttemptRunner"]

_ERROR_BODY = 64 * 1024
"""Bytes of an error's body that are worth reading."""
_ERROR_SECONDS = 5.0
"""Seconds that reading them may take."""
_UNANSWERED = frozenset({FailureClass.NEVER_SENT, FailureClass.AMBIGUOUS})


class AttemptRunner:
    """Makes attempts, one at a time for each job.

    Args:
        transport: Sends requests.
        receiving: Shared by the receivers of responses.
        limiter: Permits requests.
        max_elapsed: Seconds after its first attempt from which a job is not tried again.
        listeners: Receive events.
        clock: Returns monotonic seconds.
        wall_clock: Returns seconds since the epoch.
    """

    def __init__(
        self,
        transport: Transport,
        receiving: ReceiverContext,
        limiter: Limiter,
        *,
        max_elapsed: float,
        listeners: Listeners,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
    ) -> None:
        self._transport = transport
        self._receiving = receiving
        self._limiter = limiter
        self._max_elapsed = max_elapsed
        self._listeners = listeners
        self._clock = clock
        self._wall_clock = wall_clock
        self._loop: asyncio.AbstractEventLoop | None = None
        self._succeeded = False
        """Whether the URL has proved to be right."""

    async def open(self) -> None:
        """Prepare for the running event loop, once: the one place where a client changes its event loop."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._loop = loop
            self._limiter.join()
            self._receiving.open()
            await self._transport.open()

    async def run(self, job: Job) -> None:
        """Request what a job misses as soon as the limiter permits it; what came and what failed is kept on the job.

        Raises:
            ImagenError: The attempt failed, or must not be made.
            JobStopped: The job was stopped while it waited.
        """
        if self._loop is not asyncio.get_running_loop():
            await self.open()
        sent = False
        try:
            while not sent:
                with await self._permit(job) as lease:
                    sent = await self._send(job, lease)
        except ImagenError as error:
            job.stop.stop_if_fatal(error)
            raise

    def deadline(self, job: Job) -> float:
        """Return when a job is given up, in the clock's seconds; infinity before its first request."""
        return math.inf if job.started is None else job.started + self._max_elapsed

    def emit(self, kind: Callable[..., Event], job: Job, **facts: object) -> None:
        """Emit an event of a job; without listeners none is made."""
        if self._listeners.callbacks:
            self._listeners.tell(kind(at=self._wall_clock(), job=job.image_id, request=job.request, **facts))

    async def _permit(self, job: Job) -> Lease:
        job.wait.begin()
        deadline = math.inf  # a first attempt waits as long as it takes
        if job.failure is not None:
            deadline = self.deadline(job)
            if not job.paid and failure_class(job.failure) in _UNANSWERED:
                # Such a failure may be an outage's; a refusal costs nothing.
                job.paid = self._limiter.shared.pay(timed_out=isinstance(job.failure, TimeoutExceededError))
        try:
            return await self._limiter.acquire(images=len(job.missing), deadline=deadline)
        except NoTimeLeft:
            assert job.failure is not None, "only a retry has a deadline"  # noqa: S101 - see above
            raise job.failure from None
        finally:
            job.wait.end()

    async def _send(self, job: Job, lease: Lease) -> bool:
        """Send a request if it still may leave; return whether it did."""
        began = self._clock()
        if job.started is None:
            job.started = began
        if job.failure is not None and began >= self.deadline(job):
            raise job.failure
        try:
            job.requests += 1
            await job.recorder.sending(job.requests, len(job.missing), job.encoded.idempotency_key)
            if lease.paused() > 0 or job.stop.forbids_sending:
                # That began while the intent was recorded: no request may leave, not even one with a permit.
                await self._take_back(job)
                return False
            self.emit(Started, job, attempt=job.requests, images=len(job.missing))
            await self._exchange(job)
        except ImagenError as error:
            job.failure = error
            await self._failed(job, error, lease, self._clock() - began)
            raise
        lease.release(Verdict.ACCEPTED, paid=job.paid)
        job.failure, job.paid = None, 0
        self._succeeded = True
        return True

    async def _take_back(self, job: Job) -> None:
        unsent = Attempt(
            number=job.requests,
            at=self._wall_clock(),
            elapsed_s=0.0,
            failure=FailureClass.NEVER_SENT,
            error="a pause or a stop began before the request could leave",
        )
        await job.recorder.failed(unsent)
        job.requests -= 1

    async def _exchange(self, job: Job) -> None:
        """Send the request, receive its response, and keep its images, also those of a response that breaks."""
        headers = {"Idempotency-Key": job.encoded.idempotency_key}
        async with self._transport.post(GENERATIONS, job.encoded.body, headers) as response:
            if response.status != 200:  # noqa: PLR2004 - the contract's one good status
                # The body gets no name here, which a traceback with locals would show: some gateways repeat the key.
                raise gateway_error(
                    response.status,
                    response.headers,
                    await _head(response),
                    now=self._wall_clock(),
                    unproven_url=None
                    if self._succeeded
                    else f"{str(self._transport.base_url).rstrip('/')}{GENERATIONS}",
                )
            job.request_id = request_id(response.headers)
            receiver = Receiver(
                self._receiving,
                job.store,
                job_id=job.image_id,
                indices=job.missing,
                output_format=job.request.output_format,
                sha256=job.sha256,
                on_store_failure=job.stop.stop_if_fatal,
            )
            try:
                await receiver.receive(response)
            finally:
                job.keep(images := receiver.images)
                if images:
                    self.emit(Saved, job, images=images)
            if (document := receiver.document) is not None:
                job.created = document.created
                job.reasons = tuple(dict.fromkeys((*job.reasons, *document.reasons)))
            if receiver.fault is not None:
                _raise_if_it_cost_an_image(job, receiver.fault)
        if job.missing:
            self.emit(Filtered, job, missing=len(job.missing), reasons=job.reasons)

    async def _failed(self, job: Job, error: ImagenError, lease: Lease, elapsed: float) -> None:
        """Release the permit with what a failed attempt says about the gateway, and record the attempt."""
        job.stop.stop_if_fatal(error)  # first, so that no waiting job gets the permit
        job.paid = 0
        failure = failure_class(error)
        if failure is None:
            return
        text = printable(f"{type(error).__name__}: {error}")
        # Before it is recorded: every other job must hear of it immediately.
        lease.release(
            _verdict(error, failure),
            retry_after=error.retry_after if isinstance(error, GatewayError) else None,
            failure=printable(text, 200) if failure in _UNANSWERED else None,
        )
        attempt = Attempt(
            number=job.requests,
            at=self._wall_clock(),
            elapsed_s=elapsed,
            failure=failure,
            error=text,
            request_id=getattr(error, "request_id", None),
            doubtful=len(job.missing) if failure is FailureClass.AMBIGUOUS else 0,
        )
        job.attempts.append(attempt)
        await job.recorder.failed(attempt)


async def _head(response: Response) -> bytes:
    """Read what arrives of an error's body in time: its headers may name a pause that must not wait."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_ERROR_SECONDS):
            return await response.head(_ERROR_BODY)
    return b""


def _raise_if_it_cost_an_image(job: Job, fault: ImagenError) -> None:
    """Raise a fault that cost an image, and note one that cost none."""
    if isinstance(fault, ProtocolError):
        fault.request_id = fault.request_id or job.request_id
    if job.missing:
        raise fault
    job.notes = (*job.notes, f"all images arrived, although the response was broken: {fault}")


def _verdict(error: ImagenError, failure: FailureClass) -> Verdict:
    if failure is FailureClass.REFUSED:
        return Verdict.REFUSED
    if failure is FailureClass.NEVER_SENT:
        return Verdict.NOTHING
    # The gateway did work on a request that was wrong, and on one whose response was.
    overloaded = failure is FailureClass.AMBIGUOUS and not isinstance(error, ProtocolError)
    return Verdict.OVERLOADED if overloaded else Verdict.ACCEPTED
