"""Streams of a client: their outcomes, how far ahead they read, and what ends them."""

from __future__ import annotations

import asyncio
import itertools
import threading
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import (
    AuthenticationError,
    ConfigurationError,
    ImagenClient,
    ImageRequest,
    LocalStore,
    RejectedError,
    Status,
    StoreError,
)
from tests.clients import (
    FATAL,
    KEY,
    client_of,
    files_under,
    linux,
    open_files,
    other_tasks,
    outcomes_of,
)
from tests.clock import FakeClock, settle, until
from tests.pictures import png
from tests.servers import Asked, body_of, reply, serving
from tests.spying import SpyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


@pytest.mark.parametrize("ordered", [False, True])
async def test_a_stream_takes_texts_and_requests_from_any_iterable(
    *, ordered: bool, imagen_sandbox: SandboxGateway, clock: FakeClock
) -> None:
    async def source() -> AsyncIterator[str | ImageRequest]:
        yield "a fox"
        yield ImageRequest("a hen", n=2)

    async with client_of(imagen_sandbox, clock) as client:
        for requests in (source(), ["a fox", ImageRequest("a hen", n=2)]):
            outcomes = await outcomes_of(client, requests, ordered=ordered)
            assert {outcome.request.prompt: len(outcome.images) for outcome in outcomes} == {"a fox": 1, "a hen": 2}


async def test_ordered_outcomes_come_in_the_order_of_the_requests(
    imagen_sandbox_factory: SandboxFactory, clock: FakeClock
) -> None:
    gateway = await imagen_sandbox_factory(latency=(0.0, 0.003), faults={"500": 0.3}, faults_per_body=1)
    prompts = [f"fox {n}" for n in range(30)]
    async with client_of(gateway, clock) as client:
        outcomes = await outcomes_of(client, prompts, ordered=True)
    assert [outcome.request.prompt for outcome in outcomes] == prompts
    assert all(outcome.ok for outcome in outcomes)


async def test_a_failed_job_is_an_outcome_with_the_error_that_generate_raises(
    imagen_sandbox_factory: SandboxFactory, clock: FakeClock
) -> None:
    gateway = await imagen_sandbox_factory(faults={"400-blocked": 0.5}, seed=1)
    async with client_of(gateway, clock) as client:
        outcomes = await outcomes_of(client, [f"fox {n}" for n in range(20)])
    statuses = {outcome.status for outcome in outcomes}
    assert statuses == {Status.SUCCEEDED, Status.FAILED}
    assert len(outcomes) == 20
    for outcome in outcomes:
        assert (outcome.status is Status.FAILED) is isinstance(outcome.error, RejectedError)


@pytest.mark.parametrize("fault", ["401", "403", "503-model-not-found"])
@pytest.mark.parametrize("ordered", [False, True])
async def test_what_stops_everything_is_raised_once_and_early(
    fault: str, *, ordered: bool, imagen_sandbox_factory: SandboxFactory, clock: FakeClock
) -> None:
    gateway = await imagen_sandbox_factory(faults={fault: 1.0})
    pulled = itertools.count()
    async with client_of(gateway, clock, max_concurrency=4) as client:
        with pytest.raises(FATAL):
            await outcomes_of(client, (f"fox {next(pulled)}" for _ in range(1000)), ordered=ordered)
    assert next(pulled) <= client.window + 1
    # The requests with a permit when the first one failed are sent; no other is.
    assert gateway.requests <= 4 + 1


async def test_the_outcomes_of_requests_in_flight_come_before_the_error(clock: FakeClock) -> None:
    bad, good = asyncio.Event(), asyncio.Event()

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        wrong = asked.json["prompt"] == "bad"
        await (bad if wrong else good).wait()
        writer.write(reply(b"{}", status=401) if wrong else reply(body_of(png())))

    async with serving(handler) as server:
        async with (
            ImagenClient(KEY, server.base_url, max_concurrency=3, _runtime=clock.runtime()) as client,
            client.stream(["one", "bad", "two", *["later"] * 50]) as outcomes,
        ):
            await until(lambda: len(server.asked) == 3)
            bad.set()
            await until(lambda: client.limiter.in_flight < 3 or len(server.asked) > 3)
            good.set()
            seen = [await anext(outcomes), await anext(outcomes)]
            assert {outcome.request.prompt for outcome in seen} == {"one", "two"}
            with pytest.raises(AuthenticationError):
                await anext(outcomes)
            with pytest.raises(StopAsyncIteration):
                await anext(outcomes)
        assert [asked.json["prompt"] for asked in server.asked].count("later") <= 1


async def test_a_disk_that_is_full_stops_the_stream(imagen_sandbox: SandboxGateway, clock: FakeClock) -> None:
    async with client_of(imagen_sandbox, clock, max_concurrency=2) as client:
        with pytest.raises(StoreError):
            await outcomes_of(client, [f"fox {n}" for n in range(50)], store=SpyStore(fails="write"))
    assert imagen_sandbox.requests <= 4


async def test_a_slow_consumer_slows_the_source(imagen_sandbox: SandboxGateway, clock: FakeClock) -> None:
    pulled = 0

    def source() -> Iterator[str]:
        nonlocal pulled
        while True:
            pulled += 1
            yield f"fox {pulled}"

    async with client_of(imagen_sandbox, clock, max_concurrency=2) as client, client.stream(source()) as outcomes:
        for taken in range(8):
            await until(lambda: imagen_sandbox.requests == pulled and not client.limiter.in_flight)
            assert pulled <= taken + client.window
            await anext(outcomes)
            await settle()
    assert imagen_sandbox.requests <= 8 + client.window


async def test_an_error_of_the_source_is_raised_after_the_outcomes_of_its_items(
    imagen_sandbox: SandboxGateway, clock: FakeClock
) -> None:
    def source() -> Iterator[str]:
        yield from ("a fox", "a hen")
        raise OSError("the file is gone")

    seen = []
    async with client_of(imagen_sandbox, clock) as client:
        with pytest.raises(OSError, match="the file is gone"):
            async with client.stream(source()) as outcomes:
                async for outcome in outcomes:
                    seen.append(outcome.request.prompt)  # noqa: PERF401 - it raises on the way
    assert sorted(seen) == ["a fox", "a hen"]


@pytest.mark.parametrize("requests", ["a fox", ImageRequest("a fox")])
async def test_a_single_prompt_is_refused(requests: Any) -> None:
    with pytest.raises(ConfigurationError, match="generate"):
        ImagenClient(KEY).stream(requests)


@linux
@pytest.mark.parametrize("how", ["break", "error", "cancel"])
@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_leaving_a_stream_early_leaves_nothing_behind(
    how: str, kind: str, tmp_path: Path, imagen_sandbox_factory: SandboxFactory, clock: FakeClock
) -> None:
    gateway = await imagen_sandbox_factory(faults={"stall": 0.5}, stall_s=1000.0)
    before = other_tasks()
    closed = False

    def prompts() -> Iterator[str]:
        yield from (f"fox {n}" for n in range(1000))

    async def asynchronous() -> AsyncIterator[str]:
        nonlocal closed
        try:
            for prompt in prompts():
                yield prompt
        finally:
            closed = True

    files = open_files()

    async def consume() -> None:
        source = prompts() if kind == "sync" else asynchronous()
        async with client_of(gateway, clock, max_concurrency=8) as client:
            async with client.stream(source, store=LocalStore(tmp_path)) as outcomes:
                await anext(outcomes)
                await until(lambda: client.limiter.in_flight >= 3)
                if how == "error":
                    raise ZeroDivisionError
                if how == "cancel":
                    asyncio.current_task().cancel()  # type: ignore[union-attr] # it is one
                    await asyncio.Event().wait()
            assert client.limiter.in_flight == 0

    consumer = asyncio.ensure_future(consume())
    await asyncio.wait([consumer])
    assert consumer.cancelled() is (how == "cancel")
    if how != "cancel":
        assert type(consumer.exception()) is (ZeroDivisionError if how == "error" else type(None))
    assert other_tasks() <= before
    assert closed is (kind == "async")
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("imagen-writer")]
    # The sandbox closes its ends a moment after ours.
    await until(lambda: open_files() <= files + 1)
    assert [name for name in files_under(tmp_path) if not name.endswith(".png")] == []


async def test_two_streams_share_one_client(imagen_sandbox: SandboxGateway, clock: FakeClock) -> None:
    async with client_of(imagen_sandbox, clock, max_concurrency=2) as client:
        both = await asyncio.gather(
            *(outcomes_of(client, [f"{name} {n}" for n in range(6)]) for name in ("fox", "hen"))
        )
    assert [len(outcomes) for outcomes in both] == [6, 6]
    assert imagen_sandbox.most_concurrent <= 2
