from __future__ import annotations

import asyncio

import pytest

from imagen_async._cancellation import ended, unbroken
from tests.clock import settle


class Work:
    """Runs until a test ends it, with a result or an error."""

    def __init__(self, error: Exception | None = None) -> None:
        self.let = asyncio.Event()
        self.done = False
        self._error = error

    async def __call__(self) -> str:
        await self.let.wait()
        self.done = True
        if self._error is not None:
            raise self._error
        return "done"


async def test_without_a_cancellation_the_result_or_the_error_is_passed_on() -> None:
    good, bad = Work(), Work(ZeroDivisionError())
    good.let.set()
    bad.let.set()
    assert await unbroken(good()) == "done"
    with pytest.raises(ZeroDivisionError):
        await unbroken(bad())


@pytest.mark.parametrize("error", [None, ZeroDivisionError()])
@pytest.mark.parametrize("times", [1, 3])
async def test_a_cancellation_is_raised_once_and_only_after_the_work_has_ended(
    times: int, error: Exception | None
) -> None:
    work = Work(error)
    waiting = asyncio.ensure_future(unbroken(work()))
    for _ in range(times):
        await settle()
        waiting.cancel()
        await settle()
        assert not waiting.done()
    work.let.set()
    with pytest.raises(asyncio.CancelledError) as caught:
        await waiting
    assert work.done
    assert caught.value.__cause__ is error


async def test_a_timeout_that_is_raised_late_is_a_timeout() -> None:
    work = Work()

    async def impatient() -> None:
        async with asyncio.timeout(0):
            await unbroken(work())

    waiting = asyncio.ensure_future(impatient())
    await settle()
    work.let.set()
    with pytest.raises(TimeoutError):
        await waiting
    assert work.done


async def test_all_futures_are_awaited() -> None:
    works = [Work(), Work()]
    tasks = [asyncio.ensure_future(work()) for work in works]
    waiting = asyncio.ensure_future(ended(*tasks))
    works[0].let.set()
    await settle()
    assert not waiting.done()
    works[1].let.set()
    assert await waiting is None
    assert await ended() is None
