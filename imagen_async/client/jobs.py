"""Makes jobs of requests, and runs them for a client's streams and for batches."""

from __future__ import annotations

import functools
import itertools
import os
from typing import TYPE_CHECKING

import attrs

from imagen_async._log import LOG, facts
from imagen_async.client.job import AttemptRecorder, EncodedRequest, Job, Unrecorded
from imagen_async.client.stop import JobStopped, StopScope, stops_everything
from imagen_async.client.stream import NoResult
from imagen_async.events import Stopped
from imagen_async.exceptions import ImagenError, InvalidRequestError
from imagen_async.outcome import Outcome, Status
from imagen_async.request import ImageRequest, check_request
from imagen_async.wire.families.imagen import encode_request

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imagen_async.catalog import Catalog
    from imagen_async.client.retry import JobRunner
    from imagen_async.events import Listeners
    from imagen_async.stores import Store

__all__ = ["Jobs"]


class Jobs:
    """The jobs of one client.

    Args:
        runner: Brings a job to its outcome.
        catalog: The known models and their limits.
        listeners: Receive an event when an error stops everything.
        send_response_format: Whether requests contain ``response_format``.
        wall_clock: Returns seconds since the epoch.

    Attributes:
        run: Brings a job to its outcome; see `JobRunner.run`.
    """

    def __init__(
        self,
        runner: JobRunner,
        catalog: Catalog,
        listeners: Listeners,
        *,
        send_response_format: bool,
        wall_clock: Callable[[], float],
    ) -> None:
        self.run = runner.run
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
            encode=functools.partial(self._encode, request),
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

    def _encode(self, request: ImageRequest, images: int) -> EncodedRequest:
        if images != request.n:
            request = attrs.evolve(request, n=images)
        body = encode_request(request, send_response_format=self._send_response_format)
        return EncodedRequest.named(next(self._names), body)

    def _stopped(self, scope: StopScope) -> None:
        error = scope.cause
        if isinstance(error, ImagenError):
            LOG.warning("nothing more is sent: %s", facts(error))
            if self._listeners.callbacks:
                self._listeners.tell(Stopped(at=self._wall_clock(), error=error))
