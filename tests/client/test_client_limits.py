"""When a client sends, how long it waits, and that a cancelled call leaves nothing behind."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from imagen_async import (
    ImagenClient,
    ImagenError,
    LocalStore,
    RetryPolicy,
    TimeoutExceededError,
    Timeouts,
)
from imagen_async.wire.decoder import Decoder
from imagen_async.wire.decoder import Event as DecoderEvent
from tests.clients import (
    KEY,
    client_of,
    files_under,
    linux,
    open_files,
    other_tasks,
    outcomes_of,
)
from tests.clock import FakeClock, LoopClock, settle, until
from tests.pictures import encoded
from tests.servers import Asked, body_of, reply, serving

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


# -- pace ------------------------------------------------------------------------------------------------------------


async def test_permits_bound_the_requests_in_flight(imagen_sandbox_factory: SandboxFactory, clock: FakeClock) -> None:
    gateway = await imagen_sandbox_factory(latency=0.001, max_concurrent=3)
    async with client_of(gateway, clock, max_concurrency=3) as client:
        assert all(outcome.ok for outcome in await outcomes_of(client, (f"fox {n}" for n in range(20))))
    assert gateway.most_concurrent == 3
    assert gateway.ledger.statuses[429] == 0


async def test_waiting_for_a_permit_counts_in_no_timeout(imagen_sandbox: SandboxGateway, loop_clock: LoopClock) -> None:
    async with ImagenClient(imagen_sandbox.api_key, imagen_sandbox.base_url, max_concurrency=1) as client:
        with await client.limiter.acquire():
            waiting = asyncio.ensure_future(client.generate("a fox"))
            await loop_clock.jump(100_000.0)
            assert not waiting.done()
        assert (await waiting).ok


@pytest.mark.parametrize(
    ("fault", "timeouts", "phase"),
    [("stall", Timeouts(read=300.0, total=9000.0), "read"), ("stall", Timeouts(read=9000.0, total=300.0), "total")],
)
async def test_a_stalled_response_ends_with_the_timeout_that_expires_first(
    fault: str, timeouts: Timeouts, phase: str, imagen_sandbox_factory: SandboxFactory, loop_clock: LoopClock
) -> None:
    gateway = await imagen_sandbox_factory(faults={fault: 1.0}, stall_s=10_000.0)
    once = RetryPolicy(max_attempts=1)
    async with ImagenClient(gateway.api_key, gateway.base_url, timeouts=timeouts, retry=once) as client:
        waiting = asyncio.ensure_future(client.generate("a fox"))
        await until(lambda: gateway.ledger.requests)
        while not waiting.done():
            await loop_clock.jump(302.0)
            await asyncio.sleep(0.001)
        with pytest.raises(TimeoutExceededError) as caught:
            await waiting
    assert (caught.value.phase, caught.value.sent) == (phase, True)


@pytest.mark.parametrize("seconds", [30, 1200.5])
async def test_a_number_of_seconds_limits_an_attempt_as_a_whole(seconds: float, loop_clock: LoopClock) -> None:
    async with (
        serving(None) as server,
        ImagenClient(KEY, server.base_url, timeouts=seconds, retry=RetryPolicy(max_attempts=1)) as client,
    ):
        job = asyncio.ensure_future(client.generate("a fox"))
        await until(lambda: server.open)
        await loop_clock.jump(seconds - 1)
        assert not job.done()
        await loop_clock.jump(2)
        with pytest.raises(TimeoutExceededError) as caught:
            await job
    assert (caught.value.phase, caught.value.seconds) == ("total", seconds)


async def test_a_pause_that_the_gateway_asked_for_holds_for_the_whole_client(
    imagen_sandbox_factory: SandboxFactory,
) -> None:
    clock = FakeClock(moves=False)
    gateway = await imagen_sandbox_factory(faults={"429": 1.0}, faults_per_body=1, retry_after=30.0)
    async with client_of(gateway, clock, max_concurrency=4, draw=lambda: 0.0) as client:
        first = asyncio.ensure_future(client.generate("first"))
        await until(lambda: clock.sleeping)
        others = [asyncio.ensure_future(client.generate(f"other {n}")) for n in range(3)]
        await clock.advance(29.9)
        assert gateway.requests == 1
        everybody = asyncio.gather(first, *others)
        while not everybody.done():
            await clock.advance(1.0)
            await asyncio.sleep(0.001)
        assert all(outcome.ok for outcome in await everybody)


async def test_a_refusal_whose_body_never_arrives_is_obeyed(loop_clock: LoopClock) -> None:
    holding = Holding(reply(b"", status=429, headers="Retry-After: 100\r\n", length=10))
    async with serving(holding) as server, ImagenClient(KEY, server.base_url) as client:
        refused = asyncio.ensure_future(client.generate("a fox"))
        await holding.reached.wait()
        while not client.pace.paused_s:
            await loop_clock.jump(1.0)
            await asyncio.sleep(0.001)
        assert 90 < client.pace.paused_s <= 100
        refused.cancel()
        await asyncio.gather(refused, return_exceptions=True)


async def test_requests_leave_at_the_rate_that_was_set(imagen_sandbox: SandboxGateway) -> None:
    clock = FakeClock(moves=False)
    async with client_of(imagen_sandbox, clock, rpm=60) as client:
        jobs = [asyncio.ensure_future(client.generate(f"fox {n}")) for n in range(3)]
        await until(lambda: imagen_sandbox.requests == 1)
        for sent in (1, 2):
            await clock.advance(0.9)
            assert imagen_sandbox.requests == sent
            await clock.advance(0.11)
            await until(lambda sent=sent: imagen_sandbox.requests == sent + 1)  # type: ignore[misc] # a bound loop variable
        assert all(outcome.ok for outcome in await asyncio.gather(*jobs))


# -- cancellation ----------------------------------------------------------------------------------------------------


class Holding:
    """A server that sends a part of a response and then stalls."""

    def __init__(self, said: bytes) -> None:
        self.said = said
        self.reached = asyncio.Event()

    async def __call__(self, _: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(self.said)
        await writer.drain()
        self.reached.set()


BIG = encoded("PNG", 900, 700)
POINTS = {
    "before the answer": b"",
    "in the headers": b"HTTP/1.1 200 OK\r\nContent-",
    "before the body": reply(b"", length=10**6),
    "in the JSON": reply(b'{"created": 1, "da', length=10**6),
    "in an image": reply(body_of(BIG)[:-5000], length=10**7),
    "after an image": reply(body_of(BIG, BIG)[: len(body_of(BIG))], length=10**7),
    "in an error": reply(b'{"error": ', status=500, length=10**6),
}


@pytest.fixture
def taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the chunks that decoders receive."""
    sizes: list[int] = []
    feed = Decoder.feed

    def noted(decoder: Decoder, chunk: bytes | bytearray, size: int) -> list[DecoderEvent]:
        sizes.append(size)
        return feed(decoder, chunk, size)

    monkeypatch.setattr(Decoder, "feed", noted)
    return sizes


@linux
@pytest.mark.parametrize("point", POINTS)
async def test_a_cancelled_attempt_leaves_no_permit_connection_or_file(
    point: str, tmp_path: Path, clock: FakeClock, taken: list[int]
) -> None:
    holding = Holding(POINTS[point])
    to_take = len(POINTS[point].partition(b"\r\n\r\n")[2]) if point != "in an error" else 0
    async with serving(holding) as server:
        async with ImagenClient(KEY, server.base_url, max_concurrency=1, _runtime=clock.runtime()) as client:
            files = open_files()
            job = asyncio.ensure_future(client.generate("a fox", n=2, store=LocalStore(tmp_path)))
            await holding.reached.wait()
            await asyncio.sleep(0.003)
            await until(lambda: sum(taken) == to_take)
            assert client.limiter.in_flight == 1
            job.cancel()
            with pytest.raises(asyncio.CancelledError):
                await job
            assert client.limiter.in_flight == 0
            await until(lambda: server.open == 0)
            await until(lambda: open_files() <= files)
            # An image that had arrived whole was paid for.
            assert len(files_under(tmp_path)) == (point == "after an image")
        assert not {task for task in other_tasks() if "connected" not in task}


async def test_a_cancelled_wait_for_a_permit_takes_none(imagen_sandbox: SandboxGateway, clock: FakeClock) -> None:
    async with client_of(imagen_sandbox, clock, max_concurrency=1) as client:
        with await client.limiter.acquire():
            waiting = asyncio.ensure_future(client.generate("a fox"))
            await settle()
            waiting.cancel()
            await settle()
            assert waiting.cancelled()
        assert (await client.generate("a hen")).ok
    assert imagen_sandbox.requests == 1


async def test_a_cancelled_backoff_sends_nothing_more(imagen_sandbox_factory: SandboxFactory) -> None:
    clock = FakeClock(moves=False)
    gateway = await imagen_sandbox_factory(faults={"500": 1.0})
    async with client_of(gateway, clock) as client:
        waiting = asyncio.ensure_future(client.generate("a fox"))
        await until(lambda: clock.sleeping)
        waiting.cancel()
        await asyncio.wait([waiting])
        assert (clock.sleeping, client.limiter.in_flight) == (0, 0)
    assert gateway.requests == 1


async def test_asyncio_timeout_ends_a_request(imagen_sandbox_factory: SandboxFactory, loop_clock: LoopClock) -> None:
    gateway = await imagen_sandbox_factory(latency=10_000.0)
    async with ImagenClient(gateway.api_key, gateway.base_url) as client:

        async def impatient() -> None:
            async with asyncio.timeout(60):
                await client.generate("a fox")

        waiting = asyncio.ensure_future(impatient())
        await until(lambda: gateway.in_flight)
        await loop_clock.jump(61.0)
        with pytest.raises(TimeoutError) as caught:
            await waiting
        assert not isinstance(caught.value, ImagenError)
        assert client.limiter.in_flight == 0


async def test_a_task_group_that_fails_ends_its_requests(imagen_sandbox_factory: SandboxFactory) -> None:
    gateway = await imagen_sandbox_factory(latency=10_000.0)
    async with ImagenClient(gateway.api_key, gateway.base_url) as client:

        async def fail() -> None:
            await until(lambda: gateway.in_flight == 3)
            raise ZeroDivisionError

        with pytest.raises(ExceptionGroup) as caught:
            async with asyncio.TaskGroup() as group:
                jobs = [group.create_task(client.generate(f"fox {n}")) for n in range(3)]
                group.create_task(fail())
        assert [type(error) for error in caught.value.exceptions] == [ZeroDivisionError]
        assert all(job.cancelled() for job in jobs)
        assert client.limiter.in_flight == 0


async def test_a_task_group_collects_results(imagen_sandbox: SandboxGateway, clock: FakeClock) -> None:
    async with client_of(imagen_sandbox, clock) as client, asyncio.TaskGroup() as group:
        jobs = [group.create_task(client.generate(f"fox {n}")) for n in range(5)]
    assert [job.result().request.prompt for job in jobs] == [f"fox {n}" for n in range(5)]
