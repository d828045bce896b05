"""A disk that takes nothing, or takes it late: what was paid for is kept, and nothing more is bought."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import pytest

from imagen_async.client.client import ImagenClient
from imagen_async.client.runtime import Runtime
from imagen_async.exceptions import StoreError
from imagen_async.outcome import Status
from imagen_async.receiver import gate
from imagen_async.receiver.spill import OverflowPolicy
from imagen_async.stores import ImageName, Kept, LocalStore
from tests import fallback
from tests.batch.running import Held, caught, client, errors, images, numbered, prompts, run, strays
from tests.client.test_stopping import all_of
from tests.clients import KEY, files_under
from tests.clock import FakeClock, LoopClock, until
from tests.pictures import chunk, ihdr, png
from tests.servers import Asked, answer, body_of, reply, serving

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory
    from imagen_async.wire.image import Facts

_T = TypeVar("_T")

MIB = 2**20


@attrs.define
class Disk:
    """Fails all writes of images while it is full.

    Attributes:
        full: Whether it is.
        refused: How many calls it has failed.
    """

    full: bool = True
    refused: int = 0

    def install(self, patch: pytest.MonkeyPatch) -> None:
        real = os.open

        def opens(path: Any, *arguments: Any, **options: Any) -> int:
            if self.full and str(path).endswith(".partial"):
                self.refused += 1
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
            return real(path, *arguments, **options)

        patch.setattr(os, "open", opens)


async def in_time(clock: FakeClock, taking: asyncio.Future[_T]) -> _T:
    """Let time pass, a little after all that threads do, until it is done."""
    while not taking.done():
        await clock.advance(0.25)
        await asyncio.sleep(0.001)
    return await taking


@pytest.mark.parametrize("backlog", [16 * MIB, 1], ids=["of many", "of one image"])
async def test_when_room_is_made_in_time_all_that_was_in_flight_is_kept_and_nothing_more_is_sent(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, backlog: int
) -> None:
    monkeypatch.setattr(gate, "_capacity", lambda _: backlog)
    disk, clock, work = Disk(), FakeClock(moves=False), Held(4)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work)
    disk.install(monkeypatch)
    async with (
        client(gateway, slots=4, _runtime=clock.runtime()) as asker,
        asker.stream(numbered(50, n=2), store=LocalStore(tmp_path)) as outcomes,
    ):
        taking = asyncio.ensure_future(all_of(outcomes))
        await work.arrived.wait()
        work.let.set()
        await until(lambda: disk.refused >= 8)  # four answers of two images, in memory
        disk.full = False
        seen, error = await in_time(clock, taking)
    assert isinstance(error, StoreError)
    assert "make room" in str(error)
    assert [outcome.status for outcome in seen] == [Status.SUCCEEDED] * 4
    assert gateway.requests == 4
    assert len(files_under(tmp_path)) == 8


@attrs.define(eq=False)
class Stuck:
    """Keeps nothing before it is let."""

    writers: int = 1
    let: threading.Event = attrs.field(factory=threading.Event)

    def open(self, name: ImageName, /) -> Stuck:
        del name
        return self

    def write(self, data: bytes | memoryview, /) -> None:
        del data
        self.let.wait(30)

    def commit(self, facts: Facts, /) -> Kept:
        del facts
        return Kept()

    def discard(self) -> None:
        """There is nothing to forget."""


@pytest.mark.skipif(fallback.FORCED, reason="aiohttp's own reader reads ahead into memory")
async def test_while_a_disk_stalls_responses_wait_in_their_sockets_and_not_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    picture = png(ihdr(), chunk(b"IDAT", bytes(400_000)), chunk(b"IEND"))
    store, most = Stuck(), 1_000_000
    monkeypatch.setattr(gate, "_capacity", lambda _: most)
    async with (
        serving(answer(reply(body_of(picture)))) as server,
        ImagenClient(KEY, server.base_url, max_concurrency=8, max_reading=2) as asker,
        asker.stream([f"A red fox, number {number}" for number in range(20)], store=store) as outcomes,
    ):
        taking = asyncio.ensure_future(all_of(outcomes))
        try:
            await until(lambda: len(server.asked) >= 8)
            # Two complete bodies stay in the gate, so that no other body is read.
            await until(lambda: asker.snapshot().backlog_bytes > most // 2 and asker.snapshot().reading == 2)
            for _ in range(100):
                await asyncio.sleep(0)
                assert asker.snapshot().backlog_bytes <= most
                assert asker.snapshot().reading == 2
        finally:
            store.let.set()
        seen, error = await taking
    assert error is None
    assert [outcome.status for outcome in seen] == [Status.SUCCEEDED] * 20
    assert asker.snapshot().backlog_bytes == 0


async def test_what_never_gets_room_is_listed_and_the_folder_goes_on_later(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        Disk().install(full)
        stopped = await caught(imagen_sandbox, numbered(50, n=2), tmp_path, asking={"slots": 4})
    assert isinstance(stopped.error, StoreError)
    assert stopped.outcomes == []
    paid = imagen_sandbox.ledger.billed_images
    assert paid == 2 * imagen_sandbox.requests <= 8
    assert sum(doubt["images"] for line in errors(tmp_path) for doubt in line["doubts"]) == paid
    assert strays(tmp_path) == []
    assert (await run(imagen_sandbox, numbered(50, n=2), tmp_path)).summary.ok
    assert prompts(tmp_path) == sorted(2 * [row.prompt for row in numbered(50)])


async def test_a_batch_whose_disk_has_room_again_has_everything_and_stops_all_the_same(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, clock = Disk(), FakeClock()
    disk.install(monkeypatch)

    async def sleep(seconds: float) -> None:
        await clock.sleep(seconds)
        disk.full = clock.now < 105.0

    asking = {"slots": 4, "_runtime": Runtime(clock=clock.clock, sleep=sleep)}
    stopped = await caught(imagen_sandbox, numbered(50, n=2), tmp_path, asking=asking)
    assert isinstance(stopped.error, StoreError)
    assert set(stopped.statuses) == {"succeeded"}
    assert len(images(tmp_path)) == imagen_sandbox.ledger.billed_images == 2 * len(stopped.outcomes) <= 8
    assert stopped.summary.doubts == 0
    assert errors(tmp_path) == []


async def test_memory_for_what_the_disk_does_not_take_has_a_cap(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = (await run(await imagen_sandbox_factory(), numbered(1), tmp_path / "one")).outcomes[0].images[0].size
    disk, clock, work = Disk(), FakeClock(moves=False), Held(4)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work)
    disk.install(monkeypatch)
    policy = OverflowPolicy(max_bytes=5 * size // 2)
    async with (
        client(gateway, slots=4, overflow=policy, _runtime=clock.runtime()) as asker,
        asker.stream(numbered(50), store=LocalStore(tmp_path / "all")) as outcomes,
    ):
        taking = asyncio.ensure_future(all_of(outcomes))
        await work.arrived.wait()
        work.let.set()
        await until(lambda: disk.refused >= 4)
        await until(lambda: asker.limiter.in_flight == 2)
        disk.full = False
        seen, error = await in_time(clock, taking)
    assert isinstance(error, StoreError)
    assert Counter(outcome.status for outcome in seen) == {Status.SUCCEEDED: 2}
    assert len(files_under(tmp_path / "all")) == 2


async def test_one_image_alone_waits_for_room_as_long_as_its_patience(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Disk().install(monkeypatch)
    clock = FakeClock()
    async with client(imagen_sandbox, overflow=OverflowPolicy(patience=7.0), _runtime=clock.runtime()) as asker:
        began = clock.now
        with pytest.raises(StoreError, match="ENOSPC"):
            await asker.generate("A red fox", store=LocalStore(tmp_path))
        assert clock.now == pytest.approx(began + 7.0)
        assert (await asker.generate("A red fox")).ok, "memory is no disk"
    assert files_under(tmp_path) == []


class Stalled:
    """A store that takes nothing before it is let; what is written to it is counted."""

    def __init__(self) -> None:
        self.let = threading.Event()
        self.begun = threading.Event()
        self.size = 0

    def open(self, _: ImageName, /) -> Stalled:
        return self

    def write(self, data: bytes | memoryview, /) -> None:
        self.begun.set()
        self.let.wait()
        self.size += len(data)

    def commit(self, _: Facts, /) -> Kept:
        return Kept()

    def discard(self) -> None:
        """Nothing is left."""


async def test_a_disk_that_stalls_slows_the_socket_and_neither_the_loop_nor_a_time_out(loop_clock: LoopClock) -> None:
    picture = png(ihdr(), *(chunk(b"IDAT", bytes(8 * MIB)) for _ in range(6)), chunk(b"IEND"))
    body, said = body_of(picture), [0]

    async def handle(_: Asked, writer: asyncio.StreamWriter) -> None:
        answer = memoryview(reply(body))
        for start in range(0, len(answer), MIB):
            writer.write(answer[start : start + MIB])
            await writer.drain()
            said[0] += MIB

    store = Stalled()
    async with serving(handle) as server, ImagenClient(KEY, server.base_url) as client:
        asking = asyncio.ensure_future(client.generate("A red fox", store=store))
        await until(store.begun.is_set)
        await _standstill(said)
        assert said[0] < len(body) / 2, "the gateway was kept from sending"
        for _ in range(10):  # each longer than any time-out; and the loop goes on
            await loop_clock.jump(5000.0)
        assert not asking.done()
        store.let.set()
        outcome = await asking
    assert outcome.images[0].size == store.size == len(picture)


async def _standstill(said: list[int]) -> None:
    """Wait until the server says nothing more."""
    before = -1
    while said[0] != before:
        before = said[0]
        await asyncio.sleep(0.05)


@pytest.mark.parametrize("fails", ["write", "commit"])
async def test_a_store_of_the_user_s_own_that_fails_for_a_moment_costs_no_image(
    imagen_sandbox: SandboxGateway, fails: str
) -> None:
    store = OwnStore(fails)
    async with client(imagen_sandbox) as asker:
        outcome = await asker.generate("A red fox", store=store)
    assert outcome.ok
    assert store.calls[fails] > 1
    assert store.kept == [outcome.images[0].size]


class OwnStore:
    """Fails the first call of one kind; can give back what it took."""

    def __init__(self, fails: str) -> None:
        self.fails = fails
        self.calls = Counter[str]()
        self.kept: list[int] = []

    def open(self, _: ImageName, /) -> OwnSink:
        return OwnSink(self)

    def call(self, step: str) -> None:
        self.calls[step] += 1
        if step == self.fails and self.calls[step] == 1:
            raise StoreError("for a moment")


@attrs.define
class OwnSink:
    store: OwnStore
    data: bytearray = attrs.field(factory=bytearray)

    def write(self, data: bytes | memoryview, /) -> None:
        self.store.call("write")
        self.data += data

    def taken(self) -> bytes:
        return bytes(self.data)

    def commit(self, _: Facts, /) -> Kept:
        self.store.call("commit")
        self.store.kept.append(len(self.data))
        return Kept()

    def discard(self) -> None:
        """Nothing is left."""
