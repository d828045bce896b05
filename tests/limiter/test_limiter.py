from __future__ import annotations

import asyncio
import functools
import gc
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import OutageError
from imagen_async.limiter.circuit import RetryQuota
from imagen_async.limiter.controller import Controller
from imagen_async.limiter.limiter import Limiter, NoTimeLeft
from imagen_async.limiter.permit import Permit, Verdict
from imagen_async.limiter.shared import SharedLimiter, shared_pool
from tests.clock import FakeClock, settle
from tests.profiles import times

if TYPE_CHECKING:
    from imagen_async.limiter.pacer import Pacer


def slots_on(clock: FakeClock, size: int, *, rpm: float | None = None, pool: SharedLimiter | None = None) -> Limiter:
    own = pool or pool_on(clock)
    return Limiter(size, rpm=rpm, pool=lambda: own, clock=clock.clock)


def pool_on(clock: FakeClock, **quota: int) -> SharedLimiter:
    return SharedLimiter(quota=RetryQuota(**quota), clock=clock.clock, sleep=clock.sleep)


async def ask(slots: Limiter, verdict: Verdict = Verdict.ACCEPTED, **facts: Any) -> None:
    """Send one request that ends at once."""
    with await slots.acquire() as slot:
        slot.release(verdict, **facts)


def hold(slots: Limiter, clock: FakeClock, seconds: float) -> None:
    """Pause as a refusal that names a wait would, without one."""
    pacer = slots.shared.pacer
    assert isinstance(pacer, Controller)
    pacer.hold(seconds, now=clock.now)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(moves=False)


@attrs.define
class Users:
    """Tasks that take a slot, note when they got it, and give it back on a word."""

    slots: Limiter
    clock: FakeClock
    entered: list[float] = attrs.field(factory=list)
    order: list[int] = attrs.field(factory=list)
    leave: asyncio.Event = attrs.field(factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = attrs.field(factory=list)

    def come(self, count: int) -> None:
        start = len(self.tasks)
        self.tasks += [asyncio.ensure_future(self._use(start + number)) for number in range(count)]

    async def _use(self, number: int) -> None:
        with await self.slots.acquire() as slot:
            self.entered.append(self.clock.now)
            self.order.append(number)
            await self.leave.wait()
            slot.release(Verdict.ACCEPTED)

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
    assert repr(slots) == "<Limiter 3 of 3 in flight>"
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
        with pytest.raises(ZeroDivisionError), await slots.acquire():
            raise ZeroDivisionError
    assert slots.in_flight == 0


async def test_a_pause_holds_the_whole_pool_until_it_is_over(clock: FakeClock) -> None:
    slots = slots_on(clock, 4)
    users = Users(slots, clock)
    users.come(1)
    await settle()
    hold(slots, clock, 30.0)
    users.come(5)
    await clock.advance(29.99)
    assert len(users.entered) == 1
    await clock.advance(0.01)
    assert users.entered == [100.0, 130.0]
    # They do not leave as a crowd.
    await clock.advance(1.0)
    assert len(users.entered) == 4
    assert sorted(set(users.entered)) == users.entered
    await users.end()


async def test_a_pause_that_grows_while_it_is_waited_for_is_waited_for_whole(clock: FakeClock) -> None:
    slots = slots_on(clock, 2)
    hold(slots, clock, 10.0)
    users = Users(slots, clock)
    users.come(1)
    await clock.advance(9.0)
    hold(slots, clock, 20.0)
    hold(slots, clock, 3.0)
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
    hold(slots, clock, 60.0)
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
            hold(slots, clock, amount)
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


async def all_slots_are_free(slots: Limiter, clock: FakeClock) -> None:
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
    hold(slots, clock, pause)
    users.come(2)
    await settle()
    users.tasks[-1].cancel()
    users.tasks[-2].cancel()
    await settle()
    assert users.tasks[-1].cancelled()
    users.leave.set()
    await all_slots_are_free(slots, clock)


# -- images a minute, deadlines, outages -----------------------------------------------------------------------------


async def test_images_a_minute_are_kept_whatever_each_request_asks_for(clock: FakeClock) -> None:
    pool = pool_on(clock)
    slots = Limiter(9, images_per_minute=60, pool=lambda: pool, clock=clock.clock)
    entered: list[tuple[float, int]] = []

    async def use(images: int) -> None:
        with await slots.acquire(images=images):
            entered.append((clock.now, images))

    users = [asyncio.ensure_future(use(images)) for images in (4, 1, 2, 3)]
    await clock.advance(60.0)
    await asyncio.gather(*users)
    assert entered == [(100.0, 4), (104.0, 1), (105.0, 2), (107.0, 3)]


async def test_who_has_no_time_for_a_pause_is_told_at_once(clock: FakeClock) -> None:
    slots = slots_on(clock, 1)
    holder = await slots.acquire()
    short = asyncio.ensure_future(slots.acquire(deadline=clock.now + 10.0))
    patient = asyncio.ensure_future(slots.acquire(deadline=clock.now + 100.0))
    await settle()
    holder.release(Verdict.REFUSED, retry_after=30.0)
    with pytest.raises(NoTimeLeft):
        await short
    await clock.advance(30.0)
    (await patient).release(Verdict.ACCEPTED)
    assert slots.in_flight == 0


async def test_in_an_outage_one_probe_leaves_at_a_time_and_an_answer_lets_everybody_go_on(clock: FakeClock) -> None:
    slots = slots_on(clock, 4, pool=pool_on(clock, capacity=20, reserve=20))
    assert slots.shared.pay(timed_out=False) == 0
    users = Users(slots, clock)
    users.come(4)
    await clock.advance(0.99)
    assert users.entered == []
    await clock.advance(50.0)
    assert users.entered == [101.0]
    users.leave.set()
    await asyncio.gather(*users.tasks)
    assert users.entered[1:] == [clock.now] * 3
    assert not slots.shared.circuit.open


async def test_the_end_of_an_earlier_outage_s_probe_lets_no_second_probe_leave(clock: FakeClock) -> None:
    pool = pool_on(clock, capacity=30, reserve=20)
    slots = slots_on(clock, 4, pool=pool)
    older = await slots.acquire()
    outage_begins(pool)
    late = asyncio.ensure_future(slots.acquire())
    await clock.advance(1.0)
    older.release(Verdict.ACCEPTED)
    outage_begins(pool)
    users = Users(slots, clock)
    users.come(3)
    await clock.advance(1.0)
    (await late).release(Verdict.NOTHING, failure="ConnectError: refused")
    await clock.advance(60.0)
    assert len(users.entered) == 1
    await users.end()


def outage_begins(pool: SharedLimiter) -> None:
    while pool.pay(timed_out=False):
        pass
    assert pool.circuit.open


async def test_when_the_last_probe_has_failed_everybody_is_told_that_waiting_is_in_vain(clock: FakeClock) -> None:
    slots = slots_on(clock, 4, pool=pool_on(clock, capacity=5, reserve=5))
    assert slots.shared.pay(timed_out=False) == 0
    waiting = [asyncio.ensure_future(slots.acquire()) for _ in range(3)]
    await clock.advance(1.0)
    (await waiting[0]).release(Verdict.NOTHING, failure="ConnectError: refused")
    for each in waiting[1:]:
        with pytest.raises(OutageError, match="1 requests in a row, the last with ConnectError: refused"):
            await each
    with pytest.raises(OutageError):
        await slots.acquire()
    await clock.advance(2.0)
    await ask(slots)
    assert not slots.shared.circuit.open


# -- clients of one key ----------------------------------------------------------------------------------------------


async def test_clients_of_one_key_take_turns(clock: FakeClock) -> None:
    pool = pool_on(clock)
    one, other = slots_on(clock, 50, pool=pool), slots_on(clock, 50, pool=pool)
    holders = [await one.acquire() for _ in range(8)]
    first, second = Users(one, clock), Users(other, clock)
    first.leave.set()
    second.leave.set()
    order: list[str] = []

    def note(name: str, _: object) -> None:
        order.append(name)

    first.come(6)
    await settle()
    second.come(6)
    await settle()
    for users, name in ((first, "one"), (second, "other")):
        for task in users.tasks:
            task.add_done_callback(functools.partial(note, name))
    holders.pop().release(Verdict.NOTHING)
    await asyncio.gather(*first.tasks, *second.tasks)
    assert order == ["one", "other"] * 6
    for holder in holders:
        holder.release(Verdict.NOTHING)


async def test_a_refusal_of_one_client_pauses_all_of_its_key(clock: FakeClock) -> None:
    pool = pool_on(clock)
    one, other = slots_on(clock, 4, pool=pool), slots_on(clock, 4, pool=pool)
    await ask(one, Verdict.REFUSED, retry_after=20.0)
    users = Users(other, clock)
    users.come(2)
    await clock.advance(19.99)
    assert users.entered == []
    await clock.advance(5.0)
    assert users.entered[0] == 120.0
    await users.end()


async def test_a_client_that_leaves_takes_its_room_with_it(clock: FakeClock) -> None:
    pool = pool_on(clock)
    one, other = slots_on(clock, 3, pool=pool), slots_on(clock, 4, pool=pool)
    await ask(one)
    await ask(other)
    assert isinstance(pool.pacer, Controller)
    assert pool.pacer.most == 7
    one.close()
    assert pool.pacer.most == 4


async def test_a_slot_that_outlives_its_client_s_stay_is_given_back_where_it_came_from(clock: FakeClock) -> None:
    pool = pool_on(clock)
    slots = slots_on(clock, 2, pool=pool)
    slot = await slots.acquire()
    slots.close()
    slot.release(Verdict.ACCEPTED)
    assert isinstance(pool.pacer, Controller)
    assert (pool.pacer.in_flight, slots.in_flight) == (0, 0)


async def test_a_pool_is_one_for_its_name_and_lives_as_long_as_it_is_used(clock: FakeClock) -> None:
    made: list[str] = []

    def pool_of(name: str) -> SharedLimiter:
        def make() -> SharedLimiter:
            made.append(name)
            return pool_on(clock)

        return shared_pool(name, make)

    first, again, other = pool_of("a name"), pool_of("a name"), pool_of("another")
    assert first is again is not other
    assert made == ["a name", "another"]
    del first, again
    gc.collect()
    pool_of("a name")
    assert made == ["a name", "another", "a name"]


class EveryOther:
    """A pace that somebody else could share: it lets a request leave every other second, and asks to be asked again."""

    limit, rate, until = 1, 0.5, 0.0

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def allow(self, most: int) -> None:
        """Nothing to do."""

    def take(self, *, now: float) -> Permit | float:
        return Permit(0, now, among=1, by_window=False, by_rate=False) if now % 2 == 0 else 2 - now % 2

    def ended(self, ticket: Permit, verdict: Verdict, *, now: float, retry_after: float | None = None) -> None:
        del ticket, now, retry_after
        self.verdicts.append(verdict)


async def test_another_pace_can_take_the_place_of_ours(clock: FakeClock) -> None:
    pacer: Pacer = EveryOther()
    pool = SharedLimiter(pacer=pacer, clock=clock.clock, sleep=clock.sleep)
    slots = slots_on(clock, 1, pool=pool)
    clock.now = 101.0
    users = Users(slots, clock)
    users.leave.set()
    users.come(1)
    await clock.advance(10.0)
    assert users.entered == [102.0]
    assert isinstance(pacer, EveryOther)
    assert pacer.verdicts == [Verdict.ACCEPTED]
