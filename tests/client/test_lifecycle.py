"""Opening a client opens all that its first request needs; after closing nothing starts any more."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from imagen_async import Batch, ConfigurationError, ImagenClient, ImagenError, LocalStore
from imagen_async.limiter.controller import Controller
from imagen_async.sandbox import SandboxGateway
from tests.clients import KEY, client_of, files_under, other_tasks
from tests.clock import FakeClock, settle, until
from tests.servers import serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from imagen_async.client.snapshot import ClientSnapshot
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


class Watched(Controller):
    """A pacer that notes for how many requests its clients have room."""

    def __init__(self) -> None:
        super().__init__()
        self.allowed: list[int] = []

    def allow(self, most: int) -> None:
        self.allowed.append(most)
        super().allow(most)


@pytest.fixture
def sessions(monkeypatch: pytest.MonkeyPatch) -> list[aiohttp.ClientSession]:
    """Every aiohttp session that is created."""
    created: list[aiohttp.ClientSession] = []
    real = aiohttp.ClientSession

    def create(**options: Any) -> aiohttp.ClientSession:
        created.append(real(**options))
        return created[-1]

    monkeypatch.setattr(aiohttp, "ClientSession", create)
    return created


async def test_entering_a_client_opens_its_session_and_joins_the_clients_of_the_key(
    imagen_sandbox: SandboxGateway, sessions: list[aiohttp.ClientSession]
) -> None:
    pacer = Watched()
    client = client_of(imagen_sandbox, FakeClock(), pacer=pacer, max_concurrency=3)
    assert (sessions, pacer.allowed) == ([], [])
    async with client:
        assert (len(sessions), pacer.allowed) == (1, [3])
        await client.generate("a fox")
        await client.generate("a hen")
        assert (len(sessions), pacer.allowed) == (1, [3])
    assert sessions[0].closed


async def test_a_client_that_is_not_entered_opens_with_its_first_request(
    imagen_sandbox: SandboxGateway, sessions: list[aiohttp.ClientSession]
) -> None:
    pacer = Watched()
    client = client_of(imagen_sandbox, FakeClock(), pacer=pacer, max_concurrency=3)
    await client.generate("a fox")
    assert (len(sessions), pacer.allowed) == (1, [3])
    await client.aclose()
    assert sessions[0].closed


CALLS: dict[str, Callable[[ImagenClient, Path], Awaitable[object]]] = {
    "generate": lambda client, _: client.generate("a fox"),
    "generate an invalid request": lambda client, _: client.generate(""),
    "list_models": lambda client, _: client.list_models(),
    "enter": lambda client, _: client.__aenter__(),
    "batch": lambda client, folder: Batch(client, ["a fox"], output=folder).__aenter__(),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
async def test_a_closed_client_refuses_every_call(
    call: Callable[[ImagenClient, Path], Awaitable[object]],
    imagen_sandbox: SandboxGateway,
    clock: FakeClock,
    tmp_path: Path,
) -> None:
    async with client_of(imagen_sandbox, clock) as client:
        pass
    with pytest.raises(ConfigurationError, match="the client is closed"):
        await call(client, tmp_path)
    with pytest.raises(ConfigurationError, match="the client is closed"):
        client.stream(["a fox"])
    assert imagen_sandbox.requests == 0
    assert files_under(tmp_path) == []
    assert "closed" in repr(client)


async def test_closing_twice_or_at_the_same_time_is_closing_once(
    imagen_sandbox: SandboxGateway, clock: FakeClock, tmp_path: Path
) -> None:
    async with client_of(imagen_sandbox, clock) as client:
        await client.generate("a fox", store=LocalStore(tmp_path))
        await asyncio.gather(client.close(), client.aclose())
    await client.close()
    assert idle(client.snapshot())


async def test_after_closing_no_job_opens_or_starts_anything(
    imagen_sandbox_factory: SandboxFactory, sessions: list[aiohttp.ClientSession], tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory(latency=10_000.0)
    pacer, threads = Watched(), threading.active_count()
    client = client_of(gateway, FakeClock(), pacer=pacer, max_concurrency=2)
    jobs = [asyncio.ensure_future(client.generate(f"fox {n}", store=LocalStore(tmp_path))) for n in range(4)]
    await until(lambda: gateway.in_flight == 2)
    assert client.snapshot().waiting == 2
    await client.close()
    errors = await asyncio.gather(*jobs, return_exceptions=True)
    assert [type(error) for error in errors] == [ConfigurationError] * 4
    assert all("the client was closed while a job was running" in str(error) for error in errors)
    ours = [error for error in errors if isinstance(error, ImagenError)]
    assert [[str(attempt.failure) for attempt in error.attempts] for error in ours] == [["ambiguous"]] * 2 + [[]] * 2
    assert (len(sessions), threading.active_count()) == (1, threads)
    assert pacer.allowed[1:] == [1]  # it has left, and has not come back
    assert idle(client.snapshot())


async def test_a_job_that_backs_off_ends_when_its_client_was_closed() -> None:
    clock = FakeClock(moves=False)
    async with serving(None) as server:
        pass
    client = ImagenClient(KEY, server.base_url, _runtime=clock.runtime(lambda: 0.5))
    job = asyncio.ensure_future(client.generate("a fox"))
    await until(lambda: clock.sleeping)
    await client.close()
    await clock.advance(1.0)
    with pytest.raises(ConfigurationError, match="the client was closed") as caught:
        await job
    assert len(caught.value.attempts) == 1
    assert other_tasks() == set()


async def test_close_and_aclose_are_both_there_wherever_something_is_closed(clock: FakeClock, tmp_path: Path) -> None:
    async def requests() -> AsyncIterator[str]:
        yield "a fox"

    gateway = SandboxGateway(images="tiny")
    await gateway.start()
    client = client_of(gateway, clock)
    stream, batch = client.stream(requests()), Batch(client, requests(), output=tmp_path)
    for thing in (await stream.__aenter__(), await batch.__aenter__(), client, gateway):
        await thing.close()
        await thing.aclose()
    await settle()
    assert other_tasks() == set()


def idle(snapshot: ClientSnapshot) -> bool:
    return (snapshot.in_flight, snapshot.waiting, snapshot.timers, snapshot.reading) == (0, 0, 0, 0)
