from __future__ import annotations

import asyncio
from itertools import pairwise

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.slots import Slots
from tests.clock import FakeClock, settle
from tests.profiles import times


def slots_on(clock: FakeClock, size: int, *, rpm: float | None = None) -> Slots:
    return Slots(size, rpm=rpm, clock=clock.clock, sleep=clock.sleep)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(moves=False)


@attrs.define
class Users:
    """Tasks that take a slot, note when they got it, and give it back on a word."""

    slots: Slots
    clock: FakeClock
    entered: list[float] = attrs.field(factory=list)
    order: list[int] = attrs.field(factory=list)
    leave: asyncio.Event = attrs.field(factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = attrs.field(factory=list)

    def come(self, count: int) -> None:
        start = len(self.tasks)
        self.tasks += [asyncio.ensure_future(self._use(start + number)) for number in range(count)]

    async def _use(self, number: int) -> None:
        async with self.slots:
            self.entered.append(self.clock.now)
            self.order.append(number)
            await self.leave.wait()

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_no_more_are_in_flight_than_there_are_slots(clock: FakeClock) -> None:
    slots = slots_on(clock, 3)
    users = Users(slots, clock)
    users.come(7)
    await settle()
    assert (len(users.entered), slots.in_flight) == (3, 3)
    assert repr(slots) == "<Slots 3 of 3 in flight>"
    users.leave.set()
    await asyncio.gather(*users.tasks)
    assert (len(users.entered), slots.in_flight) == (7, 0)


async def test_slots_are_given_in_the_order_in_which_they_were_asked_for(clock: FakeClock) -> None:
    users = Users(slots_on(clock, 1), clock)
    users.leave.set()
    users.come(9)
    await asyncio.gather(*users.tasks)
    assert users.order == list(range(9))


async def test_an_error_gives_the_slot_back(clock: FakeClock) -> None:
    slots = slots_on(clock, 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            async with slots:
                raise ZeroDivisionError
    assert slots.in_flight == 0


async def test_a_pause_holds_the_whole_pool_until_it_is_over(clock: FakeClock) -> None:
    slots = slots_on(clock, 4)
    users = Users(slots, clock)
    users.come(1)
    await settle()
    slots.hold(30.0)
    users.come(5)
    await clock.advance(29.99)
    assert len(users.entered) == 1
    await clock.advance(0.01)
    assert users.entered == [100.0, 130.0, 130.0, 130.0]
    await users.end()


async def test_a_pause_that_grows_while_it_is_waited_for_is_waited_for_whole(clock: FakeClock) -> None:
    slots = slots_on(clock, 2)
    slots.hold(10.0)
    users = Users(slots, clock)
    users.come(1)
    await clock.advance(9.0)
    slots.hold(20.0)
    slots.hold(3.0)
    await clock.advance(19.0)
    assert users.entered == []
    await clock.advance(1.0)
    assert users.entered == [129.0]
    await users.end()


async def test_requests_leave_at_the_rate_whatever_room_there_is(clock: FakeClock) -> None:
    users = Users(slots_on(clock, 10, rpm=30), clock)
    users.come(5)
    await clock.advance(100.0)
    assert users.entered == [100.0, 102.0, 104.0, 106.0, 108.0]
    await users.end()


async def test_those_who_waited_for_the_rate_do_not_leave_as_a_crowd_when_a_pause_ends(clock: FakeClock) -> None:
    slots = slots_on(clock, 10, rpm=60)
    users = Users(slots, clock)
    users.come(6)
    await clock.advance(0.5)
    slots.hold(60.0)
    await clock.advance(100.0)
    assert users.entered == [100.0, 160.5, 161.5, 162.5, 163.5, 164.5]
    await users.end()


@given(
    st.integers(1, 4),
    st.sampled_from([None, 20.0, 60.0]),
    st.lists(
        st.tuples(st.sampled_from(["come", "hold", "advance", "cancel", "leave"]), st.integers(0, 7)), max_size=25
    ),
)
@times(2)
def test_whatever_happens_pauses_rate_and_size_are_kept_and_no_slot_is_lost(
    size: int, rpm: float | None, story: list[tuple[str, int]]
) -> None:
    asyncio.run(live_through(size, rpm, story))


async def live_through(size: int, rpm: float | None, story: list[tuple[str, int]]) -> None:
    clock = FakeClock(moves=False)
    slots = slots_on(clock, size, rpm=rpm)
    users = Users(slots, clock)
    pauses: list[tuple[float, float]] = []
    for what, amount in story:
        if what == "come":
            users.come(amount)
        elif what == "hold":
            slots.hold(amount)
            pauses.append((clock.now, clock.now + amount))
        elif what == "cancel" and users.tasks:
            users.tasks[amount % len(users.tasks)].cancel()
        elif what == "leave":
            users.leave.set()
            await settle()
            users.leave.clear()
        await clock.advance(amount if what == "advance" else 0)
        assert slots.in_flight <= size
    assert not any(begin < entered < end for entered in users.entered for begin, end in pauses)
    if rpm is not None:
        assert all(after - before >= 60 / rpm - 1e-6 for before, after in pairwise(users.entered))
    await users.end()
    assert slots.in_flight == 0
    await all_slots_are_free(slots, clock)


async def all_slots_are_free(slots: Slots, clock: FakeClock) -> None:
    users = Users(slots, clock)
    users.come(slots.size)
    await clock.advance(1000.0)
    assert slots.in_flight == slots.size
    await users.end()


@pytest.mark.parametrize(("point", "pause"), [("in the queue", 0.0), ("in a pause", 30.0)])
async def test_who_is_cancelled_while_waiting_leaves_no_slot_taken(point: str, pause: float, clock: FakeClock) -> None:
    slots = slots_on(clock, 1)
    users = Users(slots, clock)
    if point == "in the queue":
        users.come(1)
    slots.hold(pause)
    users.come(2)
    await settle()
    users.tasks[-1].cancel()
    users.tasks[-2].cancel()
    await settle()
    assert users.tasks[-1].cancelled()
    users.leave.set()
    await all_slots_are_free(slots, clock)
