"""No request of a whole pool leaves before the gateway lets it, whatever way the gateway has of saying when.

What can be promised: a number of seconds, and a date beside the answer's own ``Date``, are kept by the gateway's clock,
however wrong ours is. A date alone can only be kept by our clock: where that is ahead, we come early by as much. What
cannot be read promises nothing, and no wait is longer than a day.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Iterator, Mapping
from contextlib import asynccontextmanager
from email.utils import formatdate
from typing import TYPE_CHECKING, cast

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.client.attempt import AttemptRunner
from imagen_async.client.job import EncodedRequest, Job
from imagen_async.client.retry import JobRunner
from imagen_async.events import Listeners
from imagen_async.exceptions import OverloadedError, RateLimitError
from imagen_async.limiter.backoff import RetryPolicy
from imagen_async.limiter.limiter import Limiter
from imagen_async.limiter.shared import SharedLimiter
from imagen_async.outcome import Outcome, Status
from imagen_async.receiver.receiver import ReceiverContext
from imagen_async.request import ImageRequest
from imagen_async.wire.retry_after import LONGEST
from tests.client.test_retry import Said
from tests.clock import FakeClock, settle
from tests.profiles import times
from tests.receiving import receiver_context
from tests.spying import SpyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from imagen_async.exceptions import Attempt
    from imagen_async.transport.transport import Transport

FILTERED = b'{"data":[{}]}'
"""A good answer, its image filtered: it needs no writer thread, so that the fake clock is the only one."""

# A float of the clock's size is that exact.
_CLOSE = 1e-6

_MOST_TURNS = 100
"""What may be done without any time passing: a crowd that is let go at once."""


@attrs.frozen
class Wait:
    """One way of saying how long to stay away.

    Attributes:
        way: Which one.
        seconds: How long.
        skew: How far the gateway's clock is ahead of ours.
        status: Of the answer.
        latency: Seconds until it comes.
    """

    way: str
    seconds: float
    skew: float = 0.0
    status: int = 429
    latency: float = 0.0


@attrs.frozen
class Told:
    """What an answer says, and how many seconds nobody may come after it."""

    headers: Mapping[str, str]
    seconds: float
    body: bytes = b""


def _seconds(wait: Wait, _: float) -> Told:
    text = f"{wait.seconds:.3f}"
    return Told({"Retry-After": text}, float(text))


def _whole(wait: Wait, _: float) -> Told:
    return Told({"Retry-After": str(int(wait.seconds))}, int(wait.seconds))


def _milliseconds(wait: Wait, _: float) -> Told:
    return Told({"retry-after-ms": str(int(wait.seconds * 1000)), "Retry-After": "0"}, int(wait.seconds * 1000) / 1000)


def _in_the_body(wait: Wait, _: float) -> Told:
    details = [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": f"{wait.seconds:.6f}s"}]
    return Told({}, round(wait.seconds, 6), json.dumps({"error": {"code": 429, "details": details}}).encode())


def _date(wait: Wait, now: float) -> Told:
    """A date by the gateway's clock, with what that clock shows beside it."""
    theirs = now + wait.skew
    then = int(theirs) + int(wait.seconds)
    return Told({"Retry-After": formatdate(then, usegmt=True), "Date": formatdate(theirs, usegmt=True)}, then - theirs)


def _date_alone(wait: Wait, now: float) -> Told:
    """A date by the gateway's clock and nothing to compare it with: we can only take it for one by ours."""
    then = int(now + wait.skew) + int(wait.seconds)
    return Told({"Retry-After": formatdate(then, usegmt=True)}, then - now)


def _for_ever(text: str) -> Callable[[Wait, float], Told]:
    return lambda _, __: Told({"Retry-After": text}, LONGEST)


def _rubbish(text: str) -> Callable[[Wait, float], Told]:
    return lambda _, __: Told({"Retry-After": text, "retry-after-ms": text}, 0.0)


ORDINARY: Mapping[str, Callable[[Wait, float], Told]] = {
    "seconds": _seconds,
    "whole seconds": _whole,
    "milliseconds": _milliseconds,
    "retryDelay": _in_the_body,
    "date": _date,
    "date alone": _date_alone,
    **{f"rubbish {text!r}": _rubbish(text) for text in ("nan", "-1", "soon", "", "Wed, 99 Foo 2026", "1.2.3", "0x10")},
}
FOR_EVER = {text: _for_ever(text) for text in ("1e309", "Fri, 31 Dec 9999 23:59:59 GMT", "9" * 400)}
WAYS = {**ORDINARY, **FOR_EVER}


def told(wait: Wait, now: float) -> Told:
    """What a gateway says at an instant of our wall clock, and what it may expect of us."""
    said = WAYS[wait.way](wait, now)
    return attrs.evolve(said, seconds=min(max(said.seconds, 0.0), LONGEST))


@attrs.define(eq=False)
class Gateway:
    """Answers everybody's requests, and notes each that comes before it may.

    Attributes:
        clock: Ours; the gateway's own one is ahead of it by what each wait says.
        waits: What is answered, in turn; after that everything is good.
        until: The instant before which nobody may come.
        last: What each prompt was told last: when, and how long to stay away.
        first: When each prompt came first.
        early: By how much those came early that did.
        refusals: How many waits were told.
    """

    clock: FakeClock
    waits: Iterator[Wait]
    until: float = -math.inf
    last: dict[bytes, tuple[float, float]] = attrs.field(factory=dict)
    first: dict[bytes, float] = attrs.field(factory=dict)
    early: list[float] = attrs.field(factory=list)
    refusals: int = 0

    async def open(self) -> None:
        """Do nothing: there is no session."""

    @property
    def base_url(self) -> str:
        return "https://gateway.example/v1"

    @asynccontextmanager
    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> AsyncIterator[Said]:
        del path, headers
        now = self.clock.now
        self.first.setdefault(body, now)
        if now < self.until - _CLOSE:
            self.early.append(self.until - now)
        wait = next(self.waits, None)
        if wait is not None and wait.latency:
            await self.clock.sleep(wait.latency)
        yield Said(body=FILTERED) if wait is None else self._refusal(wait, body)

    def _refusal(self, wait: Wait, body: bytes) -> Said:
        said = told(wait, self.clock.wall_clock())
        self.refusals += 1
        self.until = max(self.until, self.clock.now + said.seconds)
        self.last[body] = (self.clock.now, said.seconds)
        return Said(wait.status, said.headers, said.body)


@attrs.frozen
class SlowBooks:
    """A witness that takes its time to write things down, as a disk does."""

    clock: FakeClock

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        """Write nothing."""

    async def failed(self, attempt: Attempt) -> None:
        """Write it down."""
        del attempt
        await self.clock.sleep(0.05)

    async def answered(self, images: int) -> None:
        """Write nothing."""


@attrs.define(eq=False)
class Clients:
    """Clients of one key, each with its own slots, before one gateway.

    Attributes:
        gateway: Who is asked.
        ended: When each prompt had its outcome, and which.
    """

    gateway: Gateway
    receiving: ReceiverContext
    rng: random.Random
    max_elapsed: float
    clients: list[JobRunner] = attrs.field(factory=list)
    ended: dict[bytes, tuple[float, Outcome]] = attrs.field(factory=dict)

    def open(self, sizes: Sequence[int]) -> None:
        clock = self.gateway.clock
        shared = SharedLimiter(clock=clock.clock, sleep=clock.sleep)
        self.clients = [self._client(Limiter(size, shared=lambda: shared, clock=clock.clock)) for size in sizes]

    def _client(self, limiter: Limiter) -> JobRunner:
        clock = self.gateway.clock
        policy = RetryPolicy(on_ambiguous="retry", max_attempts=1000, max_elapsed=self.max_elapsed)
        attempts = AttemptRunner(
            cast("Transport", self.gateway),
            self.receiving,
            limiter,
            max_elapsed=policy.max_elapsed,
            listeners=Listeners(),
            clock=clock.clock,
            wall_clock=clock.wall_clock,
        )
        return JobRunner(attempts, limiter, policy=policy, clock=clock.clock, sleep=clock.sleep, draw=self.rng.random)

    async def run(self, number: int) -> None:
        body = f"job {number}".encode()
        job = Job(
            request=ImageRequest(body.decode()),
            encode=lambda _: EncodedRequest(body, body.decode()),
            store=SpyStore(),
            image_id=body.decode(),
            missing=(0,),
            recorder=SlowBooks(self.gateway.clock),
        )
        outcome = await self.clients[number % len(self.clients)].run(job)
        self.ended[body] = (self.gateway.clock.now, outcome)


async def live(clock: FakeClock, task: asyncio.Future[list[None]]) -> None:
    """Let time pass, from one sleeper's end to the next one's, until a task is done."""
    turns = 0
    while not task.done():
        if clock.sleeping:
            turns = 0
            await clock.wake_one()
        else:
            assert (turns := turns + 1) < _MOST_TURNS, "everybody waits for ever"
            await settle()


async def lives(
    waits: Iterator[Wait], *, sizes: Sequence[int], jobs: int, seed: int, max_elapsed: float = 1800.0
) -> Clients:
    """Run so many jobs to their ends on clients of such sizes."""
    clock = FakeClock(moves=False)
    with receiver_context(clock=clock, max_reading=8) as receiving:
        clients = Clients(Gateway(clock, waits), receiving, random.Random(seed), max_elapsed)
        clients.open(sizes)
        await live(clock, asyncio.gather(*(clients.run(number) for number in range(jobs))))
    return clients


def check(clients: Clients) -> None:
    """Nobody came early, nobody waited for ever, and who had no time for a wait did not begin it."""
    gateway = clients.gateway
    assert gateway.early == []
    for body, (at, outcome) in clients.ended.items():
        assert at - gateway.first[body] <= clients.max_elapsed + LONGEST
        assert outcome.status is Status.FILTERED or isinstance(outcome.error, RateLimitError | OverloadedError)
        told_at, seconds = gateway.last.get(body, (-math.inf, 0.0))
        if told_at + seconds - gateway.first[body] >= clients.max_elapsed + 1.0:
            assert outcome.status in {Status.FAILED, Status.IN_DOUBT}
            assert at - told_at <= 1.0


WAITS = st.builds(
    Wait,
    way=st.sampled_from(sorted(WAYS)),
    seconds=st.floats(0, 4000) | st.floats(0, 3) | st.sampled_from([0.0, 1800.0, 90_000.0, 1e12]),
    skew=st.sampled_from([0.0, 0.4, -3600.0, 3600.0, 86_400.0 * 400]) | st.floats(-3600, 3600),
    status=st.sampled_from([429, 429, 503, 500, 408]),
    latency=st.sampled_from([0.0, 0.0, 0.01, 2.0]),
)


@given(
    st.lists(WAITS, max_size=40),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
    st.integers(1, 12),
    st.integers(0, 999),
)
@times(2)
def test_whatever_the_gateway_says_nobody_comes_early_and_nobody_waits_for_ever(
    waits: list[Wait], sizes: list[int], jobs: int, seed: int
) -> None:
    check(asyncio.run(lives(iter(waits), sizes=sizes, jobs=jobs, seed=seed)))


def drawn(rng: random.Random, count: int) -> Iterator[Wait]:
    """So many waits, most of them short, with a good answer's worth of nothing among them now and then."""
    ordinary, for_ever = sorted(ORDINARY), sorted(FOR_EVER)
    for _ in range(count):
        yield Wait(
            way=rng.choice(for_ever if rng.random() < 0.002 else ordinary),
            seconds=rng.choice([rng.uniform(0, 2), rng.expovariate(1 / 20), rng.uniform(0, 400)]),
            skew=rng.choice([0.0, -3600.0, 3600.0, rng.uniform(-3600, 3600)]),
            status=rng.choice([429, 429, 429, 503, 500]),
            latency=rng.choice([0.0, 0.0, 0.02, rng.uniform(0, 3)]),
        )


async def test_who_backs_off_and_has_no_time_for_a_pause_that_began_meanwhile_does_not_wait_for_its_end() -> None:
    waits = [Wait("rubbish 'nan'", 0.0, status=500), Wait("seconds", 50_000.0, latency=0.1)]
    clients = await lives(iter(waits), sizes=(2,), jobs=2, seed=6)
    check(clients)
    assert {outcome.status for _, outcome in clients.ended.values()} == {Status.FAILED, Status.IN_DOUBT}
    assert max(at for at, _ in clients.ended.values()) < 110.0


@pytest.mark.slow
async def test_over_thousands_of_waits_no_request_of_the_pool_is_early() -> None:
    waits = drawn(random.Random(20), 5200)
    clients = await lives(waits, sizes=(4, 7, 2), jobs=200, seed=20, max_elapsed=1e9)
    check(clients)
    assert clients.gateway.refusals >= 5000
