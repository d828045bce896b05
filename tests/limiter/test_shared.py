"""Two clients of one key, under any interleaving of events."""

from __future__ import annotations

import asyncio
import math
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imagen_async.client.stop import JobStopped, StoppableWait, StopScope
from imagen_async.exceptions import ConfigurationError, OutageError
from imagen_async.limiter.circuit import Circuit, RetryQuota
from imagen_async.limiter.controller import Controller
from imagen_async.limiter.limiter import Lease, Limiter, NoTimeLeft
from imagen_async.limiter.permit import Permit, Verdict
from imagen_async.limiter.shared import SharedLimiter
from tests.clock import FakeClock, settle
from tests.profiles import times

if TYPE_CHECKING:
    from collections.abc import Coroutine

_CLOSE = 1e-6


@attrs.define(eq=False)
class WatchedController:
    """A controller, and the requests that left although it did not permit them."""

    controller: Controller = attrs.field(factory=Controller)
    in_flight_now: set[Permit] = attrs.field(factory=set)
    wrong: list[str] = attrs.field(factory=list)
    until: float = -math.inf
    last: Permit = attrs.field(init=False)

    @property
    def in_flight(self) -> int:
        return len(self.in_flight_now)

    @property
    def limit(self) -> int:
        return self.controller.limit

    @property
    def rate(self) -> float:
        return self.controller.rate

    def allow(self, most: int) -> None:
        self.controller.allow(most)

    def take(self, *, now: float) -> Permit | float:
        permit = self.controller.take(now=now)
        if isinstance(permit, Permit):
            self.in_flight_now.add(permit)
            self.last = permit
            if len(self.in_flight_now) > self.controller.limit:
                self.wrong.append("more in flight than the limit")
            if now < self.until - _CLOSE:
                self.wrong.append("one left in a pause")
        return permit

    def ended(self, permit: Permit, verdict: Verdict, /, *, now: float, retry_after: float | None = None) -> None:
        if permit not in self.in_flight_now:
            self.wrong.append("a permit was returned twice")
        self.in_flight_now.remove(permit)
        self.controller.ended(permit, verdict, now=now, retry_after=retry_after)
        self.until = self.controller.until


class WatchedCircuit(Circuit):
    """A circuit that records two probes of one outage."""

    def __init__(self, quota: RetryQuota, controller: WatchedController) -> None:
        super().__init__(quota)
        self._controller = controller
        self._opening = 0
        self._probes: dict[Permit, int] = {}

    def pay(self, *, timed_out: bool, now: float) -> int:
        was_open, paid = self.open, super().pay(timed_out=timed_out, now=now)
        self._opening += self.open and not was_open
        return paid

    def failed(self, *, probe: bool, among: int, now: float) -> None:
        was_open = self.open
        super().failed(probe=probe, among=among, now=now)
        self._opening += self.open and not was_open

    def sent(self) -> bool:
        if not super().sent():
            return False
        others = [each for each in self._controller.in_flight_now if self._probes.get(each) == self._opening]
        if others:
            self._controller.wrong.append("two probes of one outage are in flight")
        self._probes[self._controller.last] = self._opening
        return True


@attrs.define(eq=False)
class User:
    """A job that sends a request; a test sets `how` to the result."""

    client: int
    task: asyncio.Task[None] | None = None
    lease: Lease | None = None
    ended: str = ""
    how: asyncio.Future[dict[str, Any]] | None = None


ENDS: list[dict[str, Any]] = [
    {"verdict": Verdict.ACCEPTED},
    {"verdict": Verdict.REFUSED},
    {"verdict": Verdict.REFUSED, "retry_after": 0.5},
    {"verdict": Verdict.REFUSED, "retry_after": 40.0},
    {"verdict": Verdict.OVERLOADED, "failure": "OverloadedError: 502"},
    {"verdict": Verdict.OVERLOADED, "failure": "OverloadedError: 500", "retry_after": 3.0},
    {"verdict": Verdict.NOTHING, "failure": "ConnectError: refused"},
    {"verdict": Verdict.NOTHING},
]
CLIENTS = st.integers(0, 1)
ANY = st.integers(0, 99)


class AnyInterleaving(RuleBasedStateMachine):
    """Limits are kept, and every waiting job ends."""

    @initialize(
        sizes=st.tuples(st.integers(1, 4), st.integers(1, 12)),
        rpm=st.sampled_from([None, 60.0]),
        quota=st.builds(
            RetryQuota, capacity=st.integers(5, 60), reserve=st.integers(0, 20), in_a_row=st.integers(1, 60)
        ),
    )
    def begin(self, sizes: tuple[int, int], rpm: float | None, quota: RetryQuota) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = FakeClock(moves=False)
        self.watched = WatchedController()
        self.shared = shared = SharedLimiter(pacer=self.watched, clock=self.clock.clock, sleep=self.clock.sleep)
        self.shared.circuit = WatchedCircuit(quota, self.watched)
        self.opened = [
            partial(Limiter, size, rpm=limit, shared=lambda: shared, clock=self.clock.clock)
            for size, limit in zip(sizes, (rpm, None), strict=True)
        ]
        self.limiters = [opened() for opened in self.opened]
        self.scopes = [StopScope(), StopScope()]
        self.users: list[User] = []

    def run(self, task: Coroutine[Any, Any, None]) -> None:
        self.loop.run_until_complete(task)

    @property
    def inside(self) -> list[User]:
        return [user for user in self.users if user.lease is not None and not user.ended]

    @property
    def waiting(self) -> list[User]:
        return [user for user in self.users if user.lease is None and not user.ended]

    async def use(self, user: User, *, retry: bool, patience: float) -> None:
        limiter, paid = self.limiters[user.client], 0
        with StoppableWait(self.scopes[user.client]) as waiting:
            waiting.begin()
            if retry:
                paid = limiter.shared.pay(timed_out=False)
            with await limiter.acquire(deadline=self.clock.now + patience) as lease:
                waiting.end()
                user.lease = lease
                user.how = asyncio.get_running_loop().create_future()
                lease.release(**await user.how, paid=paid)

    async def live(self, user: User, *, retry: bool, patience: float) -> None:
        try:
            await self.use(user, retry=retry, patience=patience)
            user.ended = "served"
        except (NoTimeLeft, OutageError, JobStopped, ConfigurationError) as error:
            user.ended = type(error).__name__
        except asyncio.CancelledError:
            user.ended = "cancelled"

    @rule(client=CLIENTS, count=st.integers(1, 6), retry=st.booleans(), patience=st.sampled_from([math.inf, 30.0]))
    def some_start(self, client: int, count: int, *, retry: bool, patience: float) -> None:
        async def start() -> None:
            for _ in range(count):
                user = User(client)
                user.task = asyncio.ensure_future(self.live(user, retry=retry, patience=patience))
                self.users.append(user)
            await settle()

        self.run(start())

    @precondition(lambda self: self.inside)
    @rule(which=ANY, how=st.sampled_from(ENDS), count=st.integers(1, 4))
    def some_end(self, which: int, how: dict[str, Any], count: int) -> None:
        async def end() -> None:
            for user in self.inside[which % len(self.inside) :][:count]:
                assert user.how is not None
                user.how.set_result(how)
            await settle()

        self.run(end())

    @precondition(lambda self: self.waiting or self.inside)
    @rule(which=ANY)
    def one_is_cancelled(self, which: int) -> None:
        async def cancel() -> None:
            users = [*self.waiting, *self.inside]
            self.cancel(users[which % len(users)])
            await settle()

        self.run(cancel())

    @precondition(lambda self: self.waiting and self.inside)
    @rule(which=ANY, turns=st.integers(0, 2))
    def one_is_cancelled_just_when_a_permit_is_free(self, which: int, turns: int) -> None:
        async def cancel() -> None:
            how, next_one = self.inside[which % len(self.inside)].how, self.waiting[0]
            assert how is not None
            how.set_result(ENDS[0])
            for _ in range(turns):
                await asyncio.sleep(0)
            self.cancel(next_one)
            await settle()

        self.run(cancel())

    def cancel(self, user: User) -> None:
        assert user.task is not None
        user.task.cancel()

    @rule(client=CLIENTS)
    def a_batch_is_stopped(self, client: int) -> None:
        async def stop() -> None:
            scope, self.scopes[client] = self.scopes[client], StopScope()
            scope.stop()
            await settle()

        self.run(stop())
        assert not [user for user in self.waiting if user.client == client]

    @rule(seconds=st.sampled_from([0.0, 0.01, 0.3, 1.0, 7.0, 45.0]))
    def time_passes(self, seconds: float) -> None:
        self.run(self.clock.advance(seconds))

    @rule(client=CLIENTS)
    def a_client_is_closed_and_another_one_opened(self, client: int) -> None:
        async def close() -> None:
            self.limiters[client].close()
            await settle()

        if not any(user.client == client for user in self.inside):
            waiting = [user for user in self.waiting if user.client == client]
            self.run(close())
            assert {user.ended for user in waiting} <= {"ConfigurationError"}
            self.limiters[client] = self.opened[client]()

    @invariant()
    def limits_are_kept(self) -> None:
        assert self.watched.wrong == []
        for number, limiter in enumerate(self.limiters):
            assert limiter.in_flight == sum(user.client == number for user in self.inside) <= limiter.size
        assert self.watched.controller.in_flight == len(self.watched.in_flight_now) == len(self.inside)

    @invariant()
    def the_quota_is_kept(self) -> None:
        assert 0 <= self.shared.circuit.tokens <= self.shared.circuit.quota.capacity

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        try:
            self.run(self.every_job_ends())
            assert {user.ended for user in self.users} <= {
                "served",
                "NoTimeLeft",
                "OutageError",
                "JobStopped",
                "cancelled",
                "ConfigurationError",
            }
            assert self.watched.in_flight == 0
            self.run(self.no_task_is_left())
        finally:
            self.loop.close()

    async def every_job_ends(self) -> None:
        for _ in range(10 + 2 * len(self.users)):
            for user in self.inside:
                if user.how is not None:
                    user.how.set_result(ENDS[0])
            await self.clock.advance(45.0)
        assert not self.waiting, "a job waits forever"
        assert not self.inside

    async def no_task_is_left(self) -> None:
        await settle()
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert self.clock.sleeping == 0


TestAnyInterleaving = AnyInterleaving.TestCase
TestAnyInterleaving.settings = settings(times(2), stateful_step_count=40)
