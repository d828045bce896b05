"""Jobs, tried until they are answered or not worth another attempt.

Between attempts nothing is held. What an attempt does is `sending`'s, whether to try again and how long to wait is
`pacing`'s arithmetic, what a failure means is `wire`'s; tenacity runs the loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception

from imagen_async.client.attempt import Sending
from imagen_async.events import Failed, Listeners, Queued, Retry
from imagen_async.exceptions import FailureClass, FilteredError, GatewayError, ImagenError
from imagen_async.outcome import Outcome, Status
from imagen_async.wire.errors import failure_class
from imagen_async.wire.reasons import support_codes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from imagen_async.client.exchange import Exchange
    from imagen_async.client.job import Job
    from imagen_async.client.stop import Waiting
    from imagen_async.limiter.backoff import RetryPolicy
    from imagen_async.limiter.limiter import Limiter

__all__ = ["Attempts"]


class Attempts:
    """Runs jobs.

    Args:
        exchange: Sends one request and takes its answer.
        slots: Permit to send.
        policy: When to try again.
        listeners: Hear of what happens.
        clock: Gives monotonic seconds.
        wall_clock: Gives seconds since the epoch.
        sleep: Waits for some seconds.
        draw: Gives a random number, 0 to 1.
    """

    def __init__(
        self,
        exchange: Exchange,
        slots: Limiter,
        *,
        policy: RetryPolicy,
        listeners: Listeners | None = None,
        clock: Callable[[], float],
        wall_clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        draw: Callable[[], float],
    ) -> None:
        self._slots = slots
        self._policy = policy
        self._clock = clock
        self._draw = draw
        self._sending = Sending(
            exchange,
            slots,
            max_elapsed=policy.max_elapsed,
            listeners=listeners or Listeners(),
            clock=clock,
            wall_clock=wall_clock,
        )
        self._retrying = AsyncRetrying(
            retry=retry_if_exception(lambda error: isinstance(error, ImagenError)),
            stop=self._stop,
            wait=self._wait,
            sleep=sleep,
            before_sleep=self._before_sleep,
            reraise=True,
        )

    async def run(self, job: Job) -> Outcome:
        """Bring a job to its outcome.

        Returns:
            An outcome that is ``succeeded`` or ``partial``.

        Raises:
            ImagenError: The error of the last attempt, with all attempts noted on it, if no image was kept.
            JobStopped: The job was let go while it waited.
        """
        self._sending.tell(Queued, job)
        with job.withdrawal.covering() as waiting:
            try:
                await self._fill(job, waiting)
                return self._concluded(job)
            except ImagenError as error:
                error.attempts = tuple(job.attempts)
                status = _status(job, error)
                self._sending.tell(Failed, job, status=status, error=error)
                if status is not Status.PARTIAL:
                    raise
                return job.outcome(status, error=error, elapsed_s=self._elapsed(job))

    async def outcome(self, job: Job) -> Outcome:
        """Bring a job to its outcome; an error is an outcome as well.

        Raises:
            JobStopped: The job was let go while it waited.
        """
        try:
            return await self.run(job)
        except ImagenError as error:
            return self._ended(job, error)

    def so_far(self, job: Job) -> Outcome | None:
        """Make the outcome of a job that was let go; None if nothing was ever sent for it, and so nothing paid."""
        if not job.requests:
            return None
        return self._ended(job, job.failure or (None if job.images else _filtered(job)))

    def _ended(self, job: Job, error: ImagenError | None) -> Outcome:
        status = Status.PARTIAL if error is None else _status(job, error)
        return job.outcome(status, error=error, elapsed_s=self._elapsed(job))

    async def _fill(self, job: Job, waiting: Waiting) -> None:
        """Ask until nothing is missing, or the safety filter has taken it as often as it is asked again."""
        await self._answer(job, waiting)
        while job.missing and job.top_ups < self._policy.top_up and self._clock() < self._sending.end(job):
            job.top_ups += 1
            await job.witness.answered(job.brought)
            job.renew()
            await self._answer(job, waiting)

    def _concluded(self, job: Job) -> Outcome:
        if not job.images:
            raise _filtered(job)
        status = Status.PARTIAL if job.missing else Status.SUCCEEDED
        return job.outcome(status, elapsed_s=self._elapsed(job))

    async def _answer(self, job: Job, waiting: Waiting) -> None:
        """Try until there is an answer."""
        try:
            await self._sending.send(job, waiting)
        except ImagenError as error:
            # Most jobs need one attempt: tenacity, which costs half as much as sending, is asked from the first
            # failure on.
            await self._retrying(self._next_attempt, job, waiting, [error])

    async def _next_attempt(self, job: Job, waiting: Waiting, first: list[ImagenError]) -> None:
        """Fail as the first attempt did, and then try again."""
        if first:
            raise first.pop()
        await self._sending.send(job, waiting)

    def _elapsed(self, job: Job) -> float:
        return 0.0 if job.started is None else self._clock() - job.started

    def _stop(self, state: RetryCallState) -> bool:
        job, error = _of(state)
        return not self._policy.tries_again(
            failure_class(error),
            attempts=len(job.attempts) - job.count(FailureClass.REFUSED),
            ambiguous=job.count(FailureClass.AMBIGUOUS),
            elapsed=self._elapsed(job) + max(state.upcoming_sleep, self._slots.pool.paused()),
            should_retry=error.should_retry if isinstance(error, GatewayError) else None,
        )

    def _wait(self, state: RetryCallState) -> float:
        job, error = _of(state)
        if failure_class(error) is FailureClass.REFUSED:
            return 0.0  # the pool says when
        return self._policy.delay(failures=len(job.attempts), draw=self._draw())

    def _before_sleep(self, state: RetryCallState) -> None:
        job, _ = _of(state)
        waiting: Waiting = state.args[1]
        waiting.begin()
        self._sending.tell(Retry, job, failed=job.attempts[-1], delay=state.upcoming_sleep)


def _filtered(job: Job) -> FilteredError:
    message = "the safety filter took all images: the answer has none"
    told = "; ".join(job.reasons)
    return FilteredError(
        f"{message}: {told}" if told else message,
        status=200,
        request_id=job.request_id,
        support_codes=support_codes(told),
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
