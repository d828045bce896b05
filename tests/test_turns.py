from __future__ import annotations

import asyncio

import pytest

from imagen_async import turns
from imagen_async.turns import Turns
from tests.clock import until


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "_PATIENCE", 0.001)


def no_matter(_: int) -> None:
    """Take no notice of how much is read at once."""


async def taken(free: Turns) -> bool:
    """Whether all turns are taken, seen without waiting."""
    await asyncio.sleep(0)
    return free.free.locked()


async def test_no_more_turns_are_given_than_there_are() -> None:
    free, inside = Turns(2, of=32), 0

    async def read() -> int:
        nonlocal inside
        async with free.turn(no_matter):
            inside += 1
            most = inside
            await asyncio.sleep(0)
            inside -= 1
        return most

    assert max(await asyncio.gather(*(read() for _ in range(20)))) == 2


async def test_a_turn_that_ends_early_is_given_back_once() -> None:
    free = Turns(1, of=32)
    async with free.turn(no_matter) as turn:
        assert await taken(free)
        turn.end()
        assert not await taken(free)
        turn.end()
    async with free.turn(no_matter):
        assert await taken(free)


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_waits_for_the_network_loses_its_turn_and_reads_on_in_smaller_spans() -> None:
    free = Turns(1, of=32)
    async with free.turn(no_matter) as slow:
        large = slow.moved(0)
        slow.wait()
        async with asyncio.timeout(5), free.turn(no_matter):
            assert slow.moved(0) < large


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_waits_for_our_own_disk_keeps_its_turn() -> None:
    free = Turns(1, of=32)
    async with free.turn(no_matter) as turn:
        turn.rest()
        await until(lambda: turn._looks == 3)
        assert await taken(free)
    assert not await taken(free)


async def test_a_body_in_its_turn_is_read_in_large_pieces_and_one_that_waits_in_small_ones() -> None:
    few, many = list[int](), list[int]()
    async with Turns(1, of=32).turn(few.append), Turns(1, of=1000).turn(many.append):
        pass
    assert few[0] == many[0] > few[1] > many[1]


async def test_an_error_in_a_turn_gives_it_back_and_leaves_no_timer() -> None:
    free = Turns(1, of=32)
    with pytest.raises(ValueError, match="broken"):
        async with free.turn(no_matter):
            raise ValueError("broken")
    assert free._timer is None
    assert not await taken(free)
