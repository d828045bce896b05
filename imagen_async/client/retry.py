"""Runs a job: one loop around its attempts, until it has an outcome.

No permit is held between attempts. `attempt` makes an attempt, `wire.errors` says what a failure means,
`limiter.backoff` is the arithmetic of whether and when to try again, and tenacity applies it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from imagen_async._log import LOG, facts
from imagen_async.client.stop import JobStopped
from imagen_async.events import Failed, Queued, Retry
from imagen_async.exceptions import FailureClass, FilteredError, GatewayError, ImagenError, printable
from imagen_async.outcome import Outcome, Status
from imagen_async.wire.errors import failure_class
from imagen_async.wire.reasons import support_codes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from imagen_async.client.attempt import AttemptRunner
    from imagen_async.client.job import Job
    from imagen_async.limiter.backoff import RetryPolicy
    from imagen_async.limiter.limiter import Limiter

__all__ = ["JobRunner"]


class JobRunner:
    """Runs jobs.

    Args:
        attempts: Makes one attempt.
        limiter: Knows of pauses.
        policy: When to try again.
        clock: Returns monotonic seconds.
        sleep: Waits for some seconds.
        draw: Returns a random number from 0 to 1.
    """

    def __init__(
        self,
        attempts: AttemptRunner,
        limiter: Limiter,
        *,
        policy: RetryPolicy,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self._attempts = attempts
        self._limiter = limiter
        self._policy = policy
        self._clock = clock
        self._draw = draw
        self._sleep = sleep
        self._retrying = AsyncRetrying(
            retry=retry_if_exception_type(ImagenError),
            stop=self._gives_up,
            wait=self._backoff,
            before_sleep=self._before_sleep,
            reraise=True,
        )

    async def run(self, job: Job) -> Outcome:
        """Bring a job to its outcome; an error is an outcome as well, with all attempts on it.

        Raises:
            JobStopped: The job was stopped while it waited.
        """
        self._attempts.emit(Queued, job)
        error: ImagenError | None = None
        try:
            with job.wait:
                await self._attempt(job)
                # What the safety filter has removed is requested again, a few times.
                while (
                    job.missing and job.top_ups < self._policy.top_up and self._clock() < self._attempts.deadline(job)
                ):
                    job.top_ups += 1
                    await job.recorder.answered(job.brought)
                    job.renew()
                    await self._attempt(job)
            if not job.images:
                error = _filtered(job)
        except JobStopped:
            raise JobStopped(self._so_far(job)) from None
        except ImagenError as raised:
            error = raised
        if error is None:
            return job.outcome(Status.PARTIAL if job.missing else Status.SUCCEEDED, now=self._clock())
        error.attempts = tuple(job.attempts)
        outcome = job.outcome(_status(job, error), error=error, now=self._clock())
        self._attempts.emit(Failed, job, status=outcome.status, error=error)
        return outcome

    async def _attempt(self, job: Job) -> None:
        """Make attempts until one succeeds.

        tenacity decides after each failure. Calling it around the first attempt would cost each tiny request 12 %.

        Raises:
            ImagenError: The last attempt failed.
            JobStopped: The job was stopped while it waited.
        """
        state: RetryCallState | None = None
        while True:
            try:
                return await self._attempts.run(job)
            except ImagenError as error:
                if state is None:
                    self._retrying.begin()
                    state = RetryCallState(self._retrying, fn=None, args=(job,), kwargs={})
                state.set_exception((type(error), error, error.__traceback__))
            delay = cast("float", await self._retrying.iter(state))  # raises the error if the job gives up
            state.prepare_for_next_attempt()
            await self._sleep(delay)

    def _so_far(self, job: Job) -> Outcome | None:
        """Return the outcome of a job that was stopped; None if nothing was sent for it, and so nothing paid."""
        if not job.requests:
            return None
        error = job.failure or (None if job.images else _filtered(job))
        return job.outcome(Status.PARTIAL if error is None else _status(job, error), error=error, now=self._clock())

    def _gives_up(self, state: RetryCallState) -> bool:
        job, error = _of(state)
        return not self._policy.tries_again(
            failure_class(error),
            attempts=job.in_doubt + len(job.attempts) - job.count(FailureClass.REFUSED),
            ambiguous=job.count(FailureClass.AMBIGUOUS),
            elapsed=job.elapsed(self._clock()) + max(state.upcoming_sleep, self._limiter.shared.paused()),
            should_retry=error.should_retry if isinstance(error, GatewayError) else None,
        )

    def _backoff(self, state: RetryCallState) -> float:
        job, error = _of(state)
        if failure_class(error) is FailureClass.REFUSED:
            return 0.0  # the limiter decides when
        return self._policy.delay(failures=len(job.attempts), draw=self._draw())

    def _before_sleep(self, state: RetryCallState) -> None:
        job, error = _of(state)
        job.wait.begin()
        failed, name = job.attempts[-1], printable(job.image_id, 80)
        LOG.info("%s: attempt %d: %s; next in %.1f s", name, failed.number, facts(error), state.upcoming_sleep)
        LOG.debug("%s: attempt %d: %s", name, failed.number, failed.error)
        self._attempts.emit(Retry, job, failed=failed, delay=state.upcoming_sleep)


def _filtered(job: Job) -> FilteredError:
    message = "the safety filter removed all images: the response has none"
    reasons = "; ".join(job.reasons)
    return FilteredError(
        f"{message}: {reasons}" if reasons else message,
        status=200,
        request_id=job.request_id,
        support_codes=support_codes(reasons),
    )


def _status(job: Job, error: ImagenError) -> Status:
    if job.images:
        return Status.PARTIAL
    if isinstance(error, FilteredError):
        return Status.FILTERED
    return Status.IN_DOUBT if job.count(FailureClass.AMBIGUOUS) else Status.FAILED


def _of(state: RetryCallState) -> tuple[Job, ImagenError]:
    error = state.outcome.exception() if state.outcome is not None else None
    assert isinstance(error, ImagenError), "tenacity asks only after one of ours"  # noqa: S101 - see retry= above
    job: Job = state.args[0]
    return job, error
