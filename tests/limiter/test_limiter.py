from __future__ import annotations

import asyncio
import functools
import gc
import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import ConfigurationError, OutageError
from imagen_async.limiter.circuit import RetryQuota
from imagen_async.limiter.controller import Controller
from imagen_async.limiter.limiter import Limiter, NoTimeLeft
from imagen_async.limiter.permit import Permit, Verdict
from imagen_async.limiter.shared import SharedLimiter, shared_limiter
from tests.clock import FakeClock, settle
from tests.profiles import times

if TYPE_CHECKING:
    from imagen_async.limiter.pacer import Pacer


def limiter_on(
    clock: FakeClock, size: int, *, rpm: float | None = None, shared: SharedLimiter | None = None
) -> Limiter:
    own = shared or shared_on(clock)
    return Limiter(size, rpm=rpm, shared=lambda: own, clock=clock.clock)


def shared_on(clock: FakeClock, **quota: int) -> SharedLimiter:
    return SharedLimiter(quota=RetryQuota(**quota), clock=clock.clock, sleep=clock.sleep)


async def ask(limiter: Limiter, verdict: Verdict = Verdict.ACCEPTED, **facts: Any) -> None:
    """Send one request that ends immediately."""
    with await limiter.acquire() as lease:
        lease.release(verdict, **facts)


def hold(limiter: Limiter, clock: FakeClock, seconds: float) -> None:
    """Pause like a refusal that names a wait."""
    pacer = limiter.shared.pacer
    assert isinstance(pacer, Controller)
    pacer.hold(seconds, now=clock.now)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(moves=False)


@attrs.define
class Users:
    """Tasks that acquire a permit, record when it was granted, and release it when told to."""

    limiter: Limiter
    clock: FakeClock
    entered: list[float] = attrs.field(factory=list)
    order: list[int] = attrs.field(factory=list)
    leave: asyncio.Event = attrs.field(factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = attrs.field(factory=list)

    def start(self, count: int) -> None:
        first = len(self.tasks)
        self.tasks += [asyncio.ensure_future(self._use(first + number)) for number in range(count)]

    async def _use(self, number: int) -> None:
        with await self.limiter.acquire() as lease:
            self.entered.append(self.clock.now)
            self.order.append(number)
            await self.leave.wait()
            lease.release(Verdict.ACCEPTED)

    async def end(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_no_more_requests_are_in_flight_than_the_limiter_s_size(clock: FakeClock) -> None:
    limiter = limiter_on(clock, 3)
    users = Users(limiter, clock)
    users.start(7)
    await settle()
    assert (len(users.entered), limiter.in_flight) == (3, 3)
    assert repr(limiter) == "<Limiter 3 of 3 in flight>"
    users.leave.set()
    await asyncio.gather(*users.tasks)
    assert (len(users.entered), limiter.in_flight) == (7, 0)


async def test_permits_are_granted_in_the_order_in_which_they_were_requested(clock: FakeClock) -> None:
    users = Users(limiter_on(clock, 1), clock)
    users.leave.set()
    users.start(9)
    await asyncio.gather(*users.tasks)
    assert users.order == list(range(9))


async def test_an_error_releases_the_permit(clock: FakeClock) -> None:
    limiter = limiter_on(clock, 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), await limiter.acquire():
            raise ZeroDivisionError
    assert limiter.in_flight == 0


async def test_a_pause_holds_all_requests_until_it_is_over(clock: FakeClock) -> None:
    limiter = limiter_on(clock, 4)
    users = Users(limiter, clock)
    users.start(1)
    await settle()
    hold(limiter, clock, 30.0)
    users.start(5)
    await clock.advance(29.99)
    assert len(users.entered) == 1
    await clock.advance(0.01)
    assert users.entered == [100.0, 130.0]
    # They do not leave in a burst.
    await clock.advance(1.0)
    assert len(users.entered) == 4
    assert sorted(set(users.entered)) == users.entered
    await users.end()


async def test_a_pause_that_is_extended_meanwhile_is_waited_for_to_its_end(clock: FakeClock) -> None:
    limiter = limiter_on(clock, 2)
    hold(limiter, clock, 10.0)
    users = Users(limiter, clock)
    users.start(1)
    await clock.advance(9.0)
    hold(limiter, clock, 20.0)
    hold(limiter, clock, 3.0)
    await clock.advance(19.0)
    assert users.entered == []
    await clock.advance(1.0)
    assert users.entered == [129.0]
    await users.end()


async def test_requests_leave_at_the_rate_even_with_room_for_more(clock: FakeClock) -> None:
    users = Users(limiter_on(clock, 10, rpm=30), clock)
    users.start(5)
    await clock.advance(100.0)
    assert users.entered == [100.0, 102.0, 104.0, 106.0, 108.0]
    await users.end()


async def test_jobs_that_waited_for_the_rate_do_not_leave_in_a_burst_when_a_pause_ends(clock: FakeClock) -> None:
    limiter = limiter_on(clock, 10, rpm=60)
    users = Users(limiter, clock)
    users.start(6)
    await clock.advance(0.5)
    hold(limiter, clock, 60.0)
    await clock.advance(100.0)
    assert users.entered == [100.0, 160.5, 161.5, 162.5, 163.5, 164.5]
    await users.end()


@given(
    st.integers(1, 4),
    st.sampled_from([None, 20.0, 60.0]),
    st.lists(
        st.tuples(st.sampled_from(["start", "hold", "advance", "cancel", "leave"]), st.integers(0, 7)), max_size=25
    ),
)
@times(2)
def test_pauses_rate_and_size_are_kept_and_no_permit_is_lost(
    size: int, rpm: float | None, story: list[tuple[str, int]]
) -> None:
    asyncio.run(live_through(size, rpm, story))


async def live_through(size: int, rpm: float | None, story: list[tuple[str, int]]) -> None:
    clock = FakeClock(moves=False)
    limiter = limiter_on(clock, size, rpm=rpm)
    users = Users(limiter, clock)
    pauses: list[tuple[float, float]] = []
    for what, amount in story:
        if what == "start":
            users.start(amount)
        elif what == "hold":
            hold(limiter, clock, amount)
            pauses.append((clock.now, clock.now + amount))
        elif what == "cancel" and users.tasks:
            users.tasks[amount % len(users.tasks)].cancel()
        elif what == "leave":
            users.leave.set()
            await settle()
            users.leave.clear()
        await clock.advance(amount if what == "advance" else 0)
        assert limiter.in_flight <= size
    assert not any(begin < entered < end for entered in users.entered for begin, end in pauses)
    if rpm is not None:
        assert all(after - before >= 60 / rpm - 1e-6 for before, after in pairwise(users.entered))
    await users.end()
    assert limiter.in_flight == 0
    await all_permits_are_free(limiter, clock)


async def all_permits_are_free(limiter: Limiter, clock: FakeClock) -> None:
    users = Users(limiter, clock)
    users.start(limiter.size)
    await clock.advance(1000.0)
    assert limiter.in_flight == limiter.size
    await users.end()


@pytest.mark.parametrize(("point", "pause"), [("in the queue", 0.0), ("in a pause", 30.0)])
async def test_a_job_cancelled_while_it_waits_takes_no_permit(point: str, pause: float, clock: FakeClock) -> None:
    limiter = limiter_on(clock, 1)
    users = Users(limiter, clock)
    if point == "in the queue":
        users.start(1)
    hold(limiter, clock, pause)
    users.start(2)
    await settle()
    users.tasks[-1].cancel()
    users.tasks[-2].cancel()
    await settle()
    assert users.tasks[-1].cancelled()
    users.leave.set()
    await all_permits_are_free(limiter, clock)


# -- images a minute, deadlines, outages -----------------------------------------------------------------------------


async def test_images_a_minute_are_kept_with_any_number_of_images_a_request(clock: FakeClock) -> None:
    shared = shared_on(clock)
    limiter = Limiter(9, images_per_minute=60, shared=lambda: shared, clock=clock.clock)
    entered: list[tuple[float, int]] = []

    async def use(images: int) -> None:
        with await limiter.acquire(images=images):
            entered.append((clock.now, images))

    users = [asyncio.ensure_future(use(images)) for images in (4, 1, 2, 3)]
    await clock.advance(60.0)
    await asyncio.gather(*users)
    assert entered == [(100.0, 4), (104.0, 1), (105.0, 2), (107.0, 3)]


async def test_a_job_whose_deadline_is_before_the_end_of_a_pause_fails_immediately(clock: FakeClock) -> None:
    limiter = limiter_on(clock, 1)
    holder = await limiter.acquire()
    short = asyncio.ensure_future(limiter.acquire(deadline=clock.now + 10.0))
    patient = asyncio.ensure_future(limiter.acquire(deadline=clock.now + 100.0))
    await settle()
    holder.release(Verdict.REFUSED, retry_after=30.0)
    with pytest.raises(NoTimeLeft):
        await short
    await clock.advance(30.0)
    (await patient).release(Verdict.ACCEPTED)
    assert limiter.in_flight == 0


async def test_in_an_outage_one_probe_leaves_at_a_time_and_a_response_ends_the_outage(clock: FakeClock) -> None:
    limiter = limiter_on(clock, 4, shared=shared_on(clock, capacity=20, reserve=20))
    assert limiter.shared.pay(timed_out=False) == 0
    users = Users(limiter, clock)
    users.start(4)
    await clock.advance(0.99)
    assert users.entered == []
    await clock.advance(50.0)
    assert users.entered == [101.0]
    users.leave.set()
    await asyncio.gather(*users.tasks)
    assert users.entered[1:] == [clock.now] * 3
    assert not limiter.shared.circuit.open


async def test_the_end_of_an_earlier_outage_s_probe_lets_no_second_probe_leave(clock: FakeClock) -> None:
    shared = shared_on(clock, capacity=30, reserve=20)
    limiter = limiter_on(clock, 4, shared=shared)
    older = await limiter.acquire()
    outage_begins(shared)
    late = asyncio.ensure_future(limiter.acquire())
    await clock.advance(1.0)
    older.release(Verdict.ACCEPTED)
    outage_begins(shared)
    users = Users(limiter, clock)
    users.start(3)
    await clock.advance(1.0)
    (await late).release(Verdict.NOTHING, failure="ConnectError: refused")
    await clock.advance(60.0)
    assert len(users.entered) == 1
    await users.end()


def outage_begins(shared: SharedLimiter) -> None:
    while shared.pay(timed_out=False):
        pass
    assert shared.circuit.open


async def test_when_the_last_probe_has_failed_every_waiting_job_fails(clock: FakeClock) -> None:
    limiter = limiter_on(clock, 4, shared=shared_on(clock, capacity=5, reserve=5))
    assert limiter.shared.pay(timed_out=False) == 0
    waiting = [asyncio.ensure_future(limiter.acquire()) for _ in range(3)]
    await clock.advance(1.0)
    (await waiting[0]).release(Verdict.NOTHING, failure="ConnectError: refused")
    for each in waiting[1:]:
        with pytest.raises(OutageError, match="1 requests in a row, the last with ConnectError: refused"):
            await each
    with pytest.raises(OutageError):
        await limiter.acquire()
    await clock.advance(2.0)
    await ask(limiter)
    assert not limiter.shared.circuit.open


# -- clients of one key ----------------------------------------------------------------------------------------------


async def test_clients_of_one_key_get_permits_in_turn(clock: FakeClock) -> None:
    shared = shared_on(clock)
    one, other = limiter_on(clock, 50, shared=shared), limiter_on(clock, 50, shared=shared)
    holders = [await one.acquire() for _ in range(8)]
    first, second = Users(one, clock), Users(other, clock)
    first.leave.set()
    second.leave.set()
    order: list[str] = []

    def note(name: str, _: object) -> None:
        order.append(name)

    first.start(6)
    await settle()
    second.start(6)
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
    shared = shared_on(clock)
    one, other = limiter_on(clock, 4, shared=shared), limiter_on(clock, 4, shared=shared)
    await ask(one, Verdict.REFUSED, retry_after=20.0)
    users = Users(other, clock)
    users.start(2)
    await clock.advance(19.99)
    assert users.entered == []
    await clock.advance(5.0)
    assert users.entered[0] == 120.0
    await users.end()


async def test_the_size_of_a_client_that_leaves_counts_no_longer(clock: FakeClock) -> None:
    shared = shared_on(clock)
    one, other = limiter_on(clock, 3, shared=shared), limiter_on(clock, 4, shared=shared)
    await ask(one)
    await ask(other)
    assert isinstance(shared.pacer, Controller)
    assert shared.pacer.most == 7
    one.close()
    assert shared.pacer.most == 4


async def test_a_permit_released_after_its_client_has_left_is_returned(clock: FakeClock) -> None:
    shared = shared_on(clock)
    limiter = limiter_on(clock, 2, shared=shared)
    lease = await limiter.acquire()
    limiter.close()
    lease.release(Verdict.ACCEPTED)
    assert isinstance(shared.pacer, Controller)
    assert (shared.pacer.in_flight, limiter.in_flight) == (0, 0)


async def test_a_shared_limiter_is_the_same_for_a_key_and_lives_as_long_as_it_is_used(clock: FakeClock) -> None:
    made: list[str] = []

    def shared_for(name: str) -> SharedLimiter:
        def make() -> SharedLimiter:
            made.append(name)
            return shared_on(clock)

        return shared_limiter(name, make)

    first, again, other = shared_for("a name"), shared_for("a name"), shared_for("another")
    assert first is again is not other
    assert made == ["a name", "another"]
    del first, again
    gc.collect()
    shared_for("a name")
    assert made == ["a name", "another", "a name"]


class EveryOther:
    """A pacer that permits a request every other second."""

    limit, rate, until = 1, 0.5, 0.0

    def __init__(self) -> None:
        self.verdicts: list[Verdict] = []

    def allow(self, most: int) -> None:
        """Nothing to do."""

    def take(self, *, now: float) -> Permit | float:
        return Permit(0, now, among=1, by_window=False, by_rate=False) if now % 2 == 0 else 2 - now % 2

    def ended(self, permit: Permit, verdict: Verdict, /, *, now: float, retry_after: float | None = None) -> None:
        del permit, now, retry_after
        self.verdicts.append(verdict)


async def test_a_pacer_of_the_caller_s_decides_when_requests_leave(clock: FakeClock) -> None:
    pacer: Pacer = EveryOther()
    shared = SharedLimiter(pacer=pacer, clock=clock.clock, sleep=clock.sleep)
    limiter = limiter_on(clock, 1, shared=shared)
    clock.now = 101.0
    users = Users(limiter, clock)
    users.leave.set()
    users.start(1)
    await clock.advance(10.0)
    assert users.entered == [102.0]
    assert isinstance(pacer, EveryOther)
    assert pacer.verdicts == [Verdict.ACCEPTED]


class Broken(EveryOther):
    """A pacer whose `take` returns, or raises, something that its contract does not allow."""

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result
        self.calls = 0

    def take(self, *, now: float) -> Permit | float:
        del now
        self.calls += 1
        if isinstance(self.result, Exception):
            raise self.result
        return cast("float", self.result)


def limiter_with(pacer: Pacer, clock: FakeClock, size: int = 2) -> Limiter:
    return limiter_on(clock, size, shared=SharedLimiter(pacer=pacer, clock=clock.clock, sleep=clock.sleep))


@pytest.mark.parametrize(
    "result", [0.0, 0, -0.5, -math.inf, math.nan, None, "soon", object(), math.inf, ZeroDivisionError("their bug")]
)
async def test_a_pacer_that_breaks_its_contract_fails_every_waiting_job(result: object, clock: FakeClock) -> None:
    pacer = Broken(result)
    limiter = limiter_with(pacer, clock)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"Pacer\.take (returned|raised)"):
            await limiter.acquire()
    assert (pacer.calls, clock.sleeping, limiter.snapshot()["waiting"]) == (2, 0, 0)


async def test_a_pacer_that_breaks_its_contract_later_fails_every_waiting_job(clock: FakeClock) -> None:
    pacer = Broken(5)
    limiter = limiter_with(pacer, clock)
    waiting = [asyncio.ensure_future(limiter.acquire()) for _ in range(3)]
    await settle()
    pacer.result = None
    await clock.advance(5.0)
    for each in waiting:
        with pytest.raises(ConfigurationError, match="returned None"):
            await each


@pytest.mark.parametrize("wait", [5, 5.0])
async def test_a_pacer_may_return_its_wait_as_any_number(wait: float, clock: FakeClock) -> None:
    pacer = Broken(wait)
    limiter = limiter_with(pacer, clock)
    waiting = asyncio.ensure_future(limiter.acquire())
    await clock.advance(4.9)
    assert pacer.calls == 1
    pacer.result = Permit(1, 105.0, among=1, by_window=False, by_rate=False)
    await clock.advance(0.1)
    (await waiting).release(Verdict.ACCEPTED)


@pytest.mark.parametrize("wait", [1e300, 10**400])
async def test_a_pacer_that_asks_for_a_very_long_wait_is_asked_again_once_a_day(wait: float, clock: FakeClock) -> None:
    pacer = Broken(wait)
    waiting = asyncio.ensure_future(limiter_with(pacer, clock).acquire())
    await clock.advance(3 * 86_400.0)
    assert pacer.calls == 4
    waiting.cancel()
    await settle()
    assert clock.sleeping == 0


async def test_a_pacer_that_returns_infinity_is_asked_again_when_a_request_has_ended(clock: FakeClock) -> None:
    pacer = Broken(Permit(1, 100.0, among=1, by_window=False, by_rate=False))
    limiter = limiter_with(pacer, clock)
    first = await limiter.acquire()
    pacer.result = math.inf
    waiting = asyncio.ensure_future(limiter.acquire())
    await clock.advance(1000.0)
    assert pacer.calls == 2
    pacer.result = Permit(2, 1100.0, among=1, by_window=False, by_rate=False)
    first.release(Verdict.ACCEPTED)
    (await waiting).release(Verdict.ACCEPTED)
