from __future__ import annotations

import asyncio

import pytest

from imagen_async.client.stop import JobStopped, StopScope
from tests.clock import settle


async def waits(withdrawal: StopScope, *, then: asyncio.Event | None = None) -> str:
    """Wait as a job does; with `then`, have a request in flight until it is set."""
    with withdrawal.covering() as waiting:
        waiting.begin()
        if then is None:
            await asyncio.Event().wait()
        waiting.end()
        assert then is not None
        await then.wait()
        return "done"


async def test_those_who_wait_are_let_go_and_those_in_flight_are_not() -> None:
    withdrawal, landed = StopScope(), asyncio.Event()
    waiting, flying = asyncio.ensure_future(waits(withdrawal)), asyncio.ensure_future(waits(withdrawal, then=landed))
    await settle()
    withdrawal.withdraw()
    with pytest.raises(JobStopped):
        await waiting
    assert not waiting.cancelled()
    landed.set()
    assert await flying == "done"


async def test_who_comes_to_wait_afterwards_is_let_go_at_once() -> None:
    withdrawal = StopScope()
    withdrawal.withdraw()
    with pytest.raises(JobStopped):
        await waits(withdrawal)


async def test_a_cancellation_that_somebody_else_asked_for_stays_one() -> None:
    withdrawal = StopScope()
    waiting = asyncio.ensure_future(waits(withdrawal))
    await settle()
    waiting.cancel()
    withdrawal.withdraw()
    with pytest.raises(asyncio.CancelledError):
        await waiting


async def test_a_time_out_around_a_job_is_not_taken_for_a_withdrawal() -> None:
    withdrawal = StopScope()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await waits(withdrawal)
    assert withdrawal.waiting == set()


async def test_a_job_that_ends_is_followed_no_longer() -> None:
    withdrawal = StopScope()
    with pytest.raises(ZeroDivisionError), withdrawal.covering() as waiting:
        waiting.begin()
        raise ZeroDivisionError
    withdrawal.withdraw()
    await asyncio.sleep(0)
