"""When something stops everything, not one further request leaves: counted at the server, over a real socket."""

from __future__ import annotations

import asyncio
import sqlite3
from collections import Counter
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from imagen_async import ImageRequest
from imagen_async.batch import Batch
from imagen_async.batch.journal import Doubt, Entry, read_status, transitions
from imagen_async.client.client import ImagenClient
from imagen_async.events import Event, Retry, Stopped
from imagen_async.exceptions import (
    AuthenticationError,
    ImagenError,
    JournalError,
    LimitReachedError,
    RateLimitError,
    StoreError,
)
from imagen_async.outcome import Outcome, Status
from imagen_async.stores.local import LocalStore
from tests.batch.running import errors, metadata
from tests.clients import KEY
from tests.clock import FakeClock, until
from tests.pictures import png
from tests.servers import Asked, Server, body_of, reply, serving
from tests.spying import SpySink, SpyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from imagen_async.stores import ImageName
    from imagen_async.stores.store import Sink

SLOTS = 5
CROWD = [ImageRequest(f"later {number}", id=f"later{number}") for number in range(50)]
ROWS = [*(ImageRequest(name, id=name) for name in ("lost", "lost too", "refused", "held", "bad")), *CROWD]
SENT = 7
"""The first five, and the two that took the slots of those that back off."""


@attrs.define
class Scene:
    """Two jobs back off, one was told to wait, some are in flight, and a crowd waits; then the bad one is answered.

    Attributes:
        bad_status: What it is answered.
        server: Counts.
        clock: Stands still.
        backing_off: The prompts that wait for another attempt.
        stopped: Whether the client has said that it stops.
    """

    bad_status: int = 200
    server: Server = attrs.field(factory=Server)
    clock: FakeClock = attrs.field(factory=lambda: FakeClock(moves=False))
    backing_off: set[str] = attrs.field(factory=set)
    stopped: bool = False
    refuse: asyncio.Event = attrs.field(factory=asyncio.Event)
    bad: asyncio.Event = attrs.field(factory=asyncio.Event)
    good: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def handle(self, asked: Asked, writer: Any) -> None:
        prompt = asked.json["prompt"]
        if prompt.startswith("lost"):
            writer.write(reply(b"{}", status=500))
        elif prompt == "refused":
            await self.refuse.wait()
            writer.write(reply(b"{}", status=429, headers="Retry-After: 100\r\n"))
        elif prompt == "bad":
            await self.bad.wait()
            writer.write(reply(body_of(png()), status=self.bad_status))
        else:
            await self.good.wait()
            writer.write(reply(body_of(png())))

    @asynccontextmanager
    async def client(self) -> AsyncIterator[ImagenClient]:
        async with serving(self.handle) as self.server:
            url = self.server.base_url
            async with ImagenClient(
                KEY, url, max_concurrency=SLOTS, callbacks=[self._hear], _runtime=self.clock.runtime()
            ) as client:
                yield client

    def _hear(self, event: Event) -> None:
        self.stopped |= isinstance(event, Stopped)
        if isinstance(event, Retry):
            self.backing_off.add(event.request.prompt)

    async def happens(self, client: ImagenClient) -> None:
        """Let it come to the point, and see that nothing more is sent however long one waits."""
        await until(lambda: len(self.server.asked) == SENT)
        self.refuse.set()
        await until(lambda: "refused" in self.backing_off)
        self.bad.set()
        await until(lambda: self.stopped)
        while client.limiter.in_flight != SENT - 4:  # a store that fails is asked again for a while
            await self.clock.advance(100.0)
            await asyncio.sleep(0.0005)
        await self.clock.advance(10_000.0)
        self.good.set()
        await until(lambda: not client.limiter.in_flight)
        await self.clock.advance(10_000.0)
        assert len(self.server.asked) == SENT


async def all_of(outcomes: AsyncIterator[Outcome]) -> tuple[list[Outcome], BaseException | None]:
    """Everything that is given out, and what is raised after it."""
    seen: list[Outcome] = []
    try:
        async for outcome in outcomes:
            seen.append(outcome)  # noqa: PERF401 - it raises on the way
    except ImagenError as error:
        return seen, error
    return seen, None


class FailsForTheBadOne(SpyStore):
    """A store whose disk is full when the bad one's image comes."""

    def open(self, name: ImageName, /) -> SpySink:
        if name.id == "bad":
            raise StoreError("the disk is full", path="spied")
        return super().open(name)


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize(("status", "kind"), [(401, AuthenticationError), (200, StoreError)])
async def test_in_a_stream_nothing_leaves_after_what_stops_everything(
    status: int, kind: type[ImagenError], *, ordered: bool
) -> None:
    scene = Scene(status)
    async with (
        scene.client() as client,
        client.stream(ROWS, store=FailsForTheBadOne(), ordered=ordered) as outcomes,
    ):
        taken = asyncio.ensure_future(all_of(outcomes))
        await scene.happens(client)
        seen, error = await taken
    assert isinstance(error, kind)
    told = {outcome.request.prompt: outcome for outcome in seen}
    assert len(told) == len(seen) == SENT - 1
    assert Counter(outcome.status for outcome in seen) == {
        Status.SUCCEEDED: 3,
        Status.IN_DOUBT: 2,
        Status.FAILED: 1,
    }
    assert told["lost"].status is told["lost too"].status is Status.IN_DOUBT
    assert isinstance(told["refused"].error, RateLimitError)


def full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    real = LocalStore.open

    def fails(self: LocalStore, name: ImageName, /) -> Sink:
        if name.id == "bad":
            raise StoreError("the disk is full", path="out")
        return real(self, name)

    monkeypatch.setattr(LocalStore, "open", fails)


def nothing(_: pytest.MonkeyPatch) -> None:
    """Break nothing."""


@pytest.mark.parametrize(
    ("status", "breaks", "kind", "bad"),
    [
        (401, nothing, AuthenticationError, {}),
        (200, full_disk, StoreError, {"bad": "interrupted"}),
    ],
)
async def test_in_a_batch_nothing_leaves_after_what_stops_everything(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    status: int,
    breaks: Any,
    kind: type[ImagenError],
    bad: dict[str, str],
) -> None:
    breaks(monkeypatch)
    scene = Scene(status)
    async with scene.client() as client, Batch(client, ROWS, output=tmp_path, fsync=False) as batch:
        taken = asyncio.ensure_future(all_of(batch))
        await scene.happens(client)
        seen, error = await taken
    assert isinstance(error, kind)
    assert [outcome.status for outcome in seen] == [Status.SUCCEEDED] * 3
    assert len(metadata(tmp_path)) == 3
    jobs = read_status(tmp_path / ".imagen").jobs
    told = {line["id"]: line["status"] for line in errors(tmp_path)}
    assert told == {"lost": "interrupted", "lost too": "interrupted", **bad}
    assert (jobs["succeeded"], jobs["interrupted"], sum(jobs.values())) == (3, len(told), 3 + len(told))


async def test_when_the_journal_breaks_nothing_more_leaves_and_what_was_in_flight_will_be_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = transitions.doubt

    def breaks(connection: sqlite3.Connection, entry: Entry, doubt: Doubt) -> None:
        if entry.id == "bad":
            raise sqlite3.OperationalError("it broke")
        real(connection, entry, doubt)

    monkeypatch.setattr(transitions, "doubt", breaks)
    scene = Scene(500)
    async with scene.client() as client:
        with pytest.raises(JournalError, match="it broke"):
            async with Batch(client, ROWS, output=tmp_path, fsync=False) as batch:
                taken = asyncio.ensure_future(all_of(batch))
                await scene.happens(client)
                seen, error = await taken
    assert isinstance(error, JournalError)
    assert seen == []
    status = read_status(tmp_path / ".imagen")
    assert (status.doubts, status.unanswered.requests) == (2, 4)


async def test_when_a_cap_is_reached_nothing_more_leaves(tmp_path: Path) -> None:
    scene = Scene()
    rows = [ImageRequest(name, id=name) for name in ("lost", "lost too", "bad")]
    async with (
        scene.client() as client,
        Batch(client, [*rows, *CROWD], output=tmp_path, fsync=False, max_images=SENT) as batch,
    ):
        taken = asyncio.ensure_future(all_of(batch))
        await until(lambda: len(scene.server.asked) == SENT)
        scene.bad.set()
        await until(lambda: client.limiter.in_flight == SLOTS - 1)
        await scene.clock.advance(10_000.0)
        scene.good.set()
        seen, error = await taken
        await scene.clock.advance(10_000.0)
    assert isinstance(error, LimitReachedError)
    assert [outcome.status for outcome in seen] == [Status.SUCCEEDED] * 5
    assert len(scene.server.asked) == SENT
    status = read_status(tmp_path / ".imagen")
    assert (status.images, status.doubtful_images, status.jobs["interrupted"]) == (5, 2, 2)
