from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.receiver import gate
from imagen_async.receiver.gate import Backlog, Gate, Passage
from tests.clock import settle, until


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "_INTERVAL", 0.001)


async def taken(free: Gate) -> bool:
    """Whether all turns are taken, seen without waiting."""
    await asyncio.sleep(0)
    return free.full


async def test_no_more_turns_are_given_than_there_are() -> None:
    free, inside = Gate(2), 0

    async def read() -> int:
        nonlocal inside
        async with Passage(free):
            inside += 1
            most = inside
            await asyncio.sleep(0)
            inside -= 1
        return most

    assert max(await asyncio.gather(*(read() for _ in range(20)))) == 2


async def test_a_turn_that_ends_early_is_given_back_once() -> None:
    free = Gate(1)
    async with Passage(free) as turn:
        assert await taken(free)
        turn.leave()
        assert not await taken(free)
        turn.leave()
    async with Passage(free):
        assert await taken(free)


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_waits_for_the_network_loses_its_turn_and_reads_on_in_smaller_spans() -> None:
    free = Gate(1)
    async with Passage(free) as slow:
        large = slow.span
        async with asyncio.timeout(5), Passage(free):
            assert slow.span < large


@pytest.mark.usefixtures("impatient")
async def test_a_body_that_waits_for_our_own_disk_keeps_its_turn() -> None:
    free = Gate(1)
    async with Passage(free) as turn:
        turn.receiving = False
        await until(lambda: turn.checks == 3)
        assert await taken(free)
    assert not await taken(free)


async def test_an_error_in_a_turn_gives_it_back_and_leaves_no_timer() -> None:
    free = Gate(1)
    with pytest.raises(ValueError, match="broken"):
        async with Passage(free):
            raise ValueError("broken")
    assert not await taken(free)


async def test_a_body_that_is_all_here_keeps_its_turn_until_there_is_room_for_it_to_wait() -> None:
    free = Gate(1)
    room = gate._BACKLOG
    async with Passage(free) as first, asyncio.timeout(5):
        await first.complete(room)
        assert not await taken(free)
        async with Passage(free) as second:
            handing = asyncio.ensure_future(second.complete(1))
            await settle()
            assert not handing.done()
            assert await taken(free)
            first.written()
            await handing
            assert not await taken(free)
            first.written()
            assert free.backlog.size == 1
            second.written()
    assert free.backlog.size == 0


async def test_who_keeps_more_at_once_has_a_longer_backlog() -> None:
    free = Gate(1, threads=lambda: 100)
    async with Passage(free) as first, asyncio.timeout(5):
        await first.complete(199 * gate._SPAN_INSIDE)
        async with Passage(free) as second:
            await second.complete(gate._SPAN_INSIDE)


async def test_what_is_larger_than_all_room_is_let_in_alone() -> None:
    backlog = Backlog(lambda: 10)
    await backlog.enter(11)
    other = asyncio.ensure_future(backlog.enter(1))
    await settle()
    assert not other.done()
    backlog.leave(11)
    await other


@given(st.data())
def test_however_they_come_and_go_the_backlog_keeps_its_bounds_and_their_order(data: st.DataObject) -> None:
    most = 10

    async def play() -> None:
        backlog = Backlog(lambda: most)
        inside: list[int] = []
        let_in: list[int] = []
        came: list[tuple[int, int, asyncio.Future[None]]] = []

        async def enter(number: int, size: int) -> None:
            await backlog.enter(size)
            inside.append(size)
            let_in.append(number)

        for number in range(data.draw(st.integers(0, 25), label="steps")):
            step = data.draw(st.sampled_from(["come", "leave", "give up"]), label="step")
            waiting = [task for _, _, task in came if not task.done()]
            if step == "come":
                size = data.draw(st.integers(1, 12), label="size")
                came.append((number, size, asyncio.ensure_future(enter(number, size))))
            elif step == "leave" and inside:
                backlog.leave(inside.pop(data.draw(st.integers(0, len(inside) - 1), label="which")))
            elif waiting:
                just_now = data.draw(st.booleans(), label="just when there is room")
                if inside and just_now:
                    backlog.leave(inside.pop())
                data.draw(st.sampled_from(waiting), label="who").cancel()
            await settle()
            assert backlog.size == sum(inside)
            assert backlog.size <= most or len(inside) == 1
            assert let_in == sorted(let_in)
            first = next((size for _, size, task in came if not task.done()), None)
            assert first is None or (inside and backlog.size + first > most), "nobody waits without need"
        for _, _, task in came:
            task.cancel()
        await asyncio.gather(*(task for _, _, task in came), return_exceptions=True)

    asyncio.run(play())
