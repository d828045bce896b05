"""Jobs: a request on its way to an outcome, and what a client needs to make and run one.

`retry` and `attempt` fill in the record of a job, which decides only what is still missing.
"""

from __future__ import annotations

import functools
import itertools
import os
import zlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

import attrs

from imagen_async._log import LOG, facts
from imagen_async.client.stop import JobStopped, StoppableWait, StopScope, stops_everything
from imagen_async.client.stream import NoResult
from imagen_async.events import Stopped
from imagen_async.exceptions import Attempt, FailureClass, ImagenError, InvalidRequestError
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.request import ImageRequest, check_request
from imagen_async.stores import Store
from imagen_async.wire.families.imagen import encode_request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from imagen_async.catalog import Catalog
    from imagen_async.events import Listeners

__all__ = ["AttemptRecorder", "EncodedRequest", "Job", "Jobs", "Unrecorded"]


class AttemptRecorder(Protocol):
    """Records every request of one job, before and after; an error that it raises ends the job."""

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        """Record that request number `attempt`, for so many images, is about to be sent under this key."""

    async def failed(self, attempt: Attempt) -> None:
        """Record that it failed."""

    async def answered(self, images: int) -> None:
        """Record that it brought so many images, and that another request follows for the missing ones."""


class Unrecorded:
    """Records nothing."""

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        """Do nothing."""

    async def failed(self, attempt: Attempt) -> None:
        """Do nothing."""

    async def answered(self, images: int) -> None:
        """Do nothing."""


@attrs.frozen
class EncodedRequest:
    """A request for some images as it goes over the wire; the same for each attempt that asks for the same images.

    Attributes:
        body: The body.
        idempotency_key: The ``Idempotency-Key``; it ends in a checksum of the body.
    """

    body: bytes
    idempotency_key: str

    @classmethod
    def of(
        cls, request: ImageRequest, names: Iterator[str], images: int, *, send_response_format: bool
    ) -> EncodedRequest:
        """Encode a request for some number of images, under a key made of the next name and the body's checksum."""
        if images != request.n:
            request = attrs.evolve(request, n=images)
        body = encode_request(request, send_response_format=send_response_format)
        return cls(body, f"{next(names)}-{zlib.crc32(body):08x}")

    def under(self, earlier_key: str) -> EncodedRequest:
        """Return the same request under the key of an earlier one, if that one had the same body.

        A gateway may refuse a key that comes back with another body.
        """
        same = earlier_key.rpartition("-")[2] == self.idempotency_key.rpartition("-")[2]
        return attrs.evolve(self, idempotency_key=earlier_key) if same else self


@attrs.define(kw_only=True)
class Job:
    """One request on its way to an outcome.

    Attributes:
        request: The request as it was given; valid.
        encode: Encodes the request for some number of images.
        store: Where its images go.
        image_id: The name of its images.
        missing: Indices of the images that have not arrived, in order.
        notes: Remarks of the validation, and what was unusual since.
        recorder: Records every request.
        stop: Stops the job while it waits.
        sha256: Whether to compute a digest of each image.
        in_doubt: How many requests of earlier runs for these images are in doubt.
        earlier_key: The ``Idempotency-Key`` of the last of them; the first request uses it if its body is the same.
        images: The images that were kept, in order of arrival.
        attempts: The attempts that failed, oldest first.
        requests: How many were sent, or were about to be.
        top_ups: How many of them asked for images that the safety filter had removed.
        reasons: Why images are missing, in the gateway's words.
        started: When the first request had its permit, in the clock's seconds; None before.
        failure: The error of the last attempt; None if it did not fail.
        brought: How many images the last response brought.
        paid: Retry tokens paid for the attempt in flight, if it is a retry.
        created: The time stamp of the last response.
        request_id: The request id of the last response.
        wait: The waits of the job, which `stop` ends.
        encoded: The request for what is missing.
    """

    request: ImageRequest
    encode: Callable[[int], EncodedRequest]
    store: Store
    image_id: str
    missing: tuple[int, ...]
    notes: tuple[str, ...] = ()
    recorder: AttemptRecorder = attrs.field(factory=Unrecorded)
    stop: StopScope = attrs.field(factory=StopScope)
    sha256: bool = False
    in_doubt: int = 0
    earlier_key: str | None = None
    images: list[Image] = attrs.field(factory=list)
    attempts: list[Attempt] = attrs.field(factory=list)
    requests: int = 0
    top_ups: int = 0
    reasons: tuple[str, ...] = ()
    started: float | None = None
    failure: ImagenError | None = None
    brought: int = 0
    paid: int = 0
    created: int | None = None
    request_id: str | None = None
    wait: StoppableWait = attrs.field(init=False)
    encoded: EncodedRequest = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.wait = StoppableWait(self.stop)
        self.encoded = self.encode(len(self.missing))
        if self.earlier_key is not None:
            self.encoded = self.encoded.under(self.earlier_key)

    def keep(self, images: Iterable[Image]) -> None:
        """Add images that were kept; from now on only the others are requested."""
        before = len(self.images)
        self.images.extend(images)
        self.brought = len(self.images) - before
        if self.brought:
            kept = {image.index for image in self.images}
            self.missing = tuple(index for index in self.missing if index not in kept)
            if self.missing:
                self.renew()

    def renew(self) -> None:
        """Encode a new request: it differs from the one before, so neither body nor key may be used again."""
        self.encoded = self.encode(len(self.missing))

    def count(self, failure: FailureClass) -> int:
        """Return how many attempts failed in this way; those of earlier runs that are in doubt are ambiguous."""
        earlier = self.in_doubt if failure is FailureClass.AMBIGUOUS else 0
        return earlier + sum(attempt.failure is failure for attempt in self.attempts)

    def elapsed(self, now: float) -> float:
        """Return the seconds since the first permit; 0 before."""
        return 0.0 if self.started is None else now - self.started

    def outcome(self, status: Status, *, error: ImagenError | None = None, now: float) -> Outcome:
        """Return the outcome at `now`, in the clock's seconds: the images so far and what is known about the others."""
        return Outcome(
            request=self.request,
            status=status,
            images=tuple(sorted(self.images, key=lambda image: image.index)),
            error=error,
            attempts=tuple(self.attempts),
            notes=self.notes,
            reasons=self.reasons,
            created=self.created,
            request_id=self.request_id if error is None else getattr(error, "request_id", None),
            elapsed_s=self.elapsed(now),
        )


class Jobs:
    """The jobs of one client.

    Args:
        run: Brings a job to its outcome; `JobRunner.run`.
        catalog: The known models and their limits.
        listeners: Receive an event when an error stops everything.
        send_response_format: Whether requests contain ``response_format``.
        wall_clock: Returns seconds since the epoch.

    Attributes:
        run: As the argument.
    """

    def __init__(
        self,
        run: Callable[[Job], Awaitable[Outcome]],
        catalog: Catalog,
        listeners: Listeners,
        *,
        send_response_format: bool,
        wall_clock: Callable[[], float],
    ) -> None:
        self.run = run
        self._catalog = catalog
        self._listeners = listeners
        self._send_response_format = send_response_format
        self._wall_clock = wall_clock
        self._names = map((os.urandom(12).hex() + "{:08x}").format, itertools.count())
        """Unique names, without asking the system for randomness each time."""

    def job(
        self,
        request: ImageRequest,
        *,
        store: Store,
        image_id: str | None = None,
        indices: Sequence[int] | None = None,
        recorder: AttemptRecorder | None = None,
        stop: StopScope | None = None,
        sha256: bool = False,
        in_doubt: int = 0,
        earlier_key: str | None = None,
    ) -> Job:
        """Validate a request and return its job.

        Args:
            request: The request.
            store: Where its images go.
            image_id: The name of its images.
            indices: The indices of the images that are missing; by default all.
            recorder: Records every request that is sent.
            stop: Stops the job while it waits.
            sha256: Whether to compute a digest of each image.
            in_doubt: Requests of earlier runs for it that are in doubt; they count against `RetryPolicy.on_ambiguous`.
            earlier_key: The ``Idempotency-Key`` of the last of them.

        Raises:
            InvalidRequestError: The request breaks rules of the API.
        """
        findings = check_request(request, self._catalog)
        if findings.problems:
            raise InvalidRequestError(findings.problems)
        return Job(
            request=request,
            encode=functools.partial(
                EncodedRequest.of, request, self._names, send_response_format=self._send_response_format
            ),
            store=store,
            image_id=image_id or request.id or next(self._names),
            missing=tuple(range(request.n) if indices is None else indices),
            notes=findings.notes,
            recorder=recorder or Unrecorded(),
            stop=stop or self.stop_scope(),
            sha256=sha256,
            in_doubt=in_doubt,
            earlier_key=earlier_key,
        )

    async def perform(self, job: Job) -> Outcome:
        """Bring a job to its outcome.

        Raises:
            ImagenError: Only an error that stops everything; any other error is an outcome.
            JobStopped: The job was stopped while it waited.
        """
        outcome = await self.run(job)
        if outcome.error is not None and stops_everything(outcome.error):
            raise outcome.error
        return outcome

    async def outcome(self, item: str | ImageRequest, *, store: Store, stop: StopScope, sha256: bool) -> Outcome:
        """Return the outcome of a request or prompt of a stream; an invalid one has an outcome, too.

        Raises:
            ImagenError: An error that stops everything, if no image was kept.
            NoResult: The job was stopped before anything was sent.
        """
        request = item if isinstance(item, ImageRequest) else ImageRequest(item)
        try:
            job = self.job(request, store=store, stop=stop, sha256=sha256)
        except InvalidRequestError as error:
            return Outcome(request=request, status=Status.FAILED, error=error)
        try:
            outcome = await self.run(job)
        except JobStopped as stopped:
            if stopped.outcome is None:
                raise NoResult from None
            return stopped.outcome
        if outcome.error is not None and stops_everything(outcome.error) and not outcome.images:
            raise outcome.error
        return outcome

    def stop_scope(self) -> StopScope:
        """Return a scope of jobs that stop together; an error that stops them is logged, and is an event."""
        scope = StopScope()
        scope.subscribe(functools.partial(self._stopped, scope))
        return scope

    def _stopped(self, scope: StopScope) -> None:
        error = scope.cause
        if isinstance(error, ImagenError):
            LOG.warning("nothing more is sent: %s", facts(error))
            if self._listeners.callbacks:
                self._listeners.tell(Stopped(at=self._wall_clock(), error=error))
