from __future__ import annotations

import asyncio

import pytest

from imagen_async.client.stop import JobStopped, StoppableWait, StopScope
from imagen_async.exceptions import AuthenticationError, GatewayError, RateLimitError
from tests.clock import settle


async def waits(scope: StopScope, *, then: asyncio.Event | None = None) -> str:
    """Wait as a job does; with `then`, have a request in flight until it is set."""
    with StoppableWait(scope) as waiting:
        waiting.begin()
        if then is None:
            await asyncio.Event().wait()
        waiting.end()
        assert then is not None
        await then.wait()
        return "done"


async def test_a_stop_ends_the_jobs_that_wait_and_not_those_in_flight() -> None:
    scope, landed = StopScope(), asyncio.Event()
    waiting, flying = asyncio.ensure_future(waits(scope)), asyncio.ensure_future(waits(scope, then=landed))
    await settle()
    scope.stop()
    with pytest.raises(JobStopped):
        await waiting
    assert not waiting.cancelled()
    landed.set()
    assert await flying == "done"


async def test_a_job_that_starts_to_wait_after_a_stop_is_stopped_immediately() -> None:
    scope = StopScope()
    scope.stop()
    with pytest.raises(JobStopped):
        await waits(scope)


async def test_a_cancellation_by_another_caller_stays_a_cancellation() -> None:
    scope = StopScope()
    waiting = asyncio.ensure_future(waits(scope))
    await settle()
    waiting.cancel()
    scope.stop()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_timeout_around_a_job_is_not_taken_for_a_stop() -> None:
    scope = StopScope()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await waits(scope)
    assert scope.waiting == set()


async def test_a_stop_does_not_cancel_a_job_that_has_ended() -> None:
    scope = StopScope()
    with pytest.raises(ZeroDivisionError), StoppableWait(scope) as waiting:
        waiting.begin()
        raise ZeroDivisionError
    scope.stop()
    await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("error", "stopped"),
    [(AuthenticationError("no such key", status=401), True), (RateLimitError("slow down", status=429), False)],
)
def test_an_error_after_which_no_job_can_succeed_stops_the_scope_and_is_its_cause(
    error: GatewayError, *, stopped: bool
) -> None:
    scope, causes = StopScope(), list[BaseException | None]()
    scope.subscribe(lambda: causes.append(scope.cause))
    scope.stop_if_fatal(error)
    scope.stop_if_fatal(error)
    assert scope.stopped is stopped
    assert causes == [error] * stopped


def test_a_cause_that_becomes_known_after_a_stop_is_announced_and_the_first_one_counts() -> None:
    scope, causes = StopScope(), list[BaseException | None]()
    scope.subscribe(lambda: causes.append(scope.cause))
    first, second = OSError("first"), OSError("second")
    scope.stop()
    scope.stop(first)
    scope.stop(second)
    assert causes == [None, first]
    assert scope.cause is first
