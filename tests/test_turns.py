from __future__ import annotations

import asyncio

import pytest

from imagen_async import turns
from imagen_async.turns import Turn, Turns


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE", 0.001)


async def taken(free: Turns) -> bool:
    """Whether all turns are taken, seen without waiting."""
    await asyncio.sleep(0)
    return free._free.locked()


async def test_no_more_turns_are_given_than_there_are() -> None:
    free, inside = Turns(2), 0

    async def read() -> int:
        nonlocal inside
        async with free.turn():
            inside += 1
            most = inside
            await asyncio.sleep(0)
            inside -= 1
        return most

    assert max(await asyncio.gather(*(read() for _ in range(20)))) == 2


async def test_a_turn_that_ends_early_is_given_back_once() -> None:
    free = Turns(1)
    async with free.turn() as turn:
        assert await taken(free)
        turn.end()
        assert not await taken(free)
        turn.end()
    async with free.turn():
        assert await taken(free)


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_waits_for_the_network_loses_its_turn_and_reads_on_in_smaller_spans() -> None:
    free = Turns(1)
    async with free.turn() as slow:
        large = slow.span
        slow.wait()
        async with asyncio.timeout(5), free.turn():
            assert slow.span < large


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_waits_for_our_own_disk_keeps_its_turn() -> None:
    looks, looked = 0, asyncio.Event()

    class Watched(Turn):
        def _look(self) -> None:
            nonlocal looks
            looks += 1
            super()._look()
            if looks == 3:
                looked.set()

    free = asyncio.Semaphore(0)
    turn = Watched(free)
    turn.moved(1)
    await looked.wait()
    assert free.locked()
    turn.end()
    assert not free.locked()


async def test_an_error_in_a_turn_gives_it_back_and_leaves_no_timer() -> None:
    free = Turns(1)
    with pytest.raises(ValueError, match="broken"):
        async with free.turn() as turn:
            raise ValueError("broken")
    assert turn._timer.cancelled()
    assert not await taken(free)
