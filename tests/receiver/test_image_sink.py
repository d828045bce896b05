from __future__ import annotations

import asyncio
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import StoreError
from imagen_async.receiver import gate
from imagen_async.receiver.spill import OverflowPolicy
from imagen_async.stores import ImageName, Kept
from imagen_async.wire.image import Facts, Inspector
from tests.pictures import chunk, ihdr, png
from tests.receiving import ScriptedBody, receive, receiving
from tests.servers import body_of
from tests.spying import SpyStore
from tests.strategies import chunkings, cut

PICTURE = png(ihdr(), chunk(b"IDAT", bytes(range(256))), chunk(b"IEND"))


def facts_of(picture: bytes) -> Facts:
    inspector = Inspector(max_pixels=2**20)
    inspector.feed(picture)
    return inspector.finish()


@attrs.define(eq=False)
class Sink:
    """Keeps bytes; whether a call fails, and whether what was taken can be read back, its store says."""

    store: FlakyStore
    data: bytearray = attrs.field(factory=bytearray)
    over: bool = False

    def write(self, data: bytes | memoryview, /) -> None:
        assert not self.over
        self.store.maybe_fail()
        self.data += data

    def taken(self) -> bytes:
        assert not self.over
        if not self.store.reads_well:
            self.store.maybe_fail()
        return bytes(self.data[: self.store.gives_back])

    def commit(self, facts: Facts, /) -> Kept:
        assert not self.over
        self.store.maybe_fail()
        assert facts == facts_of(bytes(self.data)), "only what is whole is committed"
        self.over = True
        self.store.committed.append(bytes(self.data))
        return Kept(path="kept")

    def discard(self) -> None:
        self.over = True


@attrs.define(eq=False)
class FlakyStore:
    """A store whose calls fail as scripted, one entry a call, and then succeed.

    Attributes:
        failing: Whether each call fails.
        gives_back: How many bytes a sink gives back at most.
        reads_well: Whether reading back is no call that may fail.
    """

    failing: Iterator[bool]
    gives_back: int | None = None
    reads_well: bool = False
    sinks: list[Sink] = attrs.field(factory=list)
    committed: list[bytes] = attrs.field(factory=list)

    def open(self, _: ImageName, /) -> Sink:
        self.maybe_fail()
        self.sinks.append(Sink(self))
        return self.sinks[-1]

    def maybe_fail(self) -> None:
        if next(self.failing, False):
            raise StoreError("the disk is full")

    @property
    def open_sinks(self) -> int:
        return sum(not sink.over for sink in self.sinks)


async def kept_in(store: FlakyStore, *, room: int, places: list[int]) -> bool:
    """Receive the picture in pieces cut at `places`; return whether it was kept."""
    body, patience = body_of(PICTURE), OverflowPolicy(max_bytes=room, patience=3600.0)
    async with receiving(store, n=1, policy=patience) as receiver:
        try:
            await receiver.receive(ScriptedBody(iter(cut(body, places))))
        except StoreError:
            assert receiver.images == ()
    return len(receiver.images) == 1


@pytest.fixture(autouse=True)
def small_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have each piece of an image written as it comes, as those of a large image are."""
    monkeypatch.setattr(gate, "_SPAN_INSIDE", 1)


@given(
    failing=st.lists(st.booleans(), max_size=20),
    places=chunkings,
    room=st.sampled_from([0, 100, len(PICTURE), 10_000]),
    gives_back=st.sampled_from([None, 0, 50]),
)
def test_whatever_fails_the_image_is_kept_once_and_whole_or_said_to_be_lost(
    failing: list[bool], places: list[int], room: int, gives_back: int | None
) -> None:
    store = FlakyStore(iter(failing), gives_back)
    kept = asyncio.run(kept_in(store, room=room, places=places))
    assert store.committed == [PICTURE] * kept


@given(st.lists(st.booleans(), max_size=20), chunkings)
def test_with_memory_and_a_disk_that_gives_back_what_it_took_nothing_is_lost(
    failing: list[bool], places: list[int]
) -> None:
    store = FlakyStore(iter(failing), reads_well=True)
    assert asyncio.run(kept_in(store, room=10_000, places=places))
    assert store.committed == [PICTURE]


async def test_bytes_that_were_read_back_from_a_failing_disk_are_verified_again() -> None:
    store = FlakyStore(iter([False, False, True]), reads_well=True)
    body = body_of(PICTURE)

    def chunks() -> Iterator[bytes]:
        yield body[:120]
        store.sinks[0].data[50] ^= 1
        yield body[120:]

    async with receiving(store, n=1) as receiver:
        with pytest.raises(StoreError, match="the disk is full"):
            await receiver.receive(ScriptedBody(chunks()))
    assert store.committed == []


async def test_a_sink_that_cannot_give_back_costs_an_image_of_which_it_had_taken_a_part() -> None:
    store, body = SpyStore(), body_of(PICTURE)

    def chunks() -> Iterator[bytes]:
        yield body[:120]
        store.sinks[0].fails = "write"
        yield body[120:]

    async with receiving(store, n=1) as receiver:
        with pytest.raises(StoreError, match="the disk is full"):
            await receiver.receive(ScriptedBody(chunks()))
    assert store.committed == []


async def test_a_sink_that_cannot_give_back_and_has_taken_nothing_costs_nothing() -> None:
    store, body = SpyStore(fails="write"), body_of(PICTURE)

    def chunks() -> Iterator[bytes]:
        yield body[:120]
        store.fails = None
        yield body[120:]

    assert len((await receive(store, chunks(), n=1)).images) == 1
    assert store.committed == [PICTURE]
