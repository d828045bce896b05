from __future__ import annotations

import itertools
from collections.abc import Iterator

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import StoreError
from imagen_async.receiver.keeping import StoreWriter
from imagen_async.receiver.spill import OverflowPolicy
from imagen_async.stores import ImageName, Kept
from imagen_async.wire.image import Facts, Inspector
from tests.pictures import chunk, ihdr, png
from tests.receiving import overflow_of
from tests.spying import SpyStore

FOX = ImageName("fox", 0)
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
    """A store whose calls fail as it is told, one answer a call, and then no more.

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


def parts_of(data: bytes, places: list[int]) -> list[bytes]:
    cuts = [0, *sorted(place % len(data) for place in places), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(cuts)]


def keep(keeping: StoreWriter, picture: bytes, places: list[int], *, tries: int) -> bool:
    """Write and commit a picture, trying the commit again while it is not lost; say whether it was kept."""
    try:
        for part in parts_of(picture, places):
            keeping.write([part])
    except StoreError:
        assert keeping.lost
        return False
    for _ in range(tries):
        try:
            keeping.commit(facts_of(picture))
        except StoreError as error:
            assert keeping.trouble is error
            if keeping.lost:
                return False
        else:
            return True
    return False


@given(
    failing=st.lists(st.booleans(), max_size=20),
    places=st.lists(st.integers(0), max_size=5),
    room=st.sampled_from([0, 100, len(PICTURE), 10_000]),
    gives_back=st.sampled_from([None, 0, 50]),
)
def test_whatever_fails_the_image_is_kept_once_and_whole_or_said_to_be_lost(
    failing: list[bool], places: list[int], room: int, gives_back: int | None
) -> None:
    store, overflow = FlakyStore(iter(failing), gives_back), overflow_of(OverflowPolicy(max_bytes=room))
    keeping = StoreWriter(store, FOX, overflow)
    kept = keep(keeping, PICTURE, places, tries=len(failing) + 1)
    assert kept is (store.committed == [PICTURE])
    assert kept is not keeping.lost
    assert overflow.held == 0
    keeping.discard()
    assert not keeping.open
    assert all(sink.over for sink in store.sinks)


@given(st.lists(st.booleans(), max_size=20), st.lists(st.integers(0), max_size=5))
def test_with_room_and_a_disk_that_gives_back_what_it_took_nothing_is_lost(
    failing: list[bool], places: list[int]
) -> None:
    store = FlakyStore(iter(failing), reads_well=True)
    assert keep(StoreWriter(store, FOX, overflow_of()), PICTURE, places, tries=len(failing) + 1)
    assert store.committed == [PICTURE]


def test_what_came_back_from_a_failing_disk_is_looked_at_again() -> None:
    store = FlakyStore(iter([False, False, True]), reads_well=True)
    keeping = StoreWriter(store, FOX, overflow_of())
    keeping.write([PICTURE[:60]])
    store.sinks[0].data[50] ^= 1
    keeping.write([PICTURE[60:]])
    with pytest.raises(StoreError, match="the disk is full"):
        keeping.commit(facts_of(PICTURE))
    assert keeping.lost
    assert store.committed == []


def test_a_sink_that_cannot_give_back_costs_an_image_of_which_it_had_taken_a_part() -> None:
    store = SpyStore()
    keeping = StoreWriter(store, FOX, overflow_of())
    keeping.write([PICTURE[:60]])
    store.sinks[0].fails = "write"
    with pytest.raises(StoreError, match="the disk is full"):
        keeping.write([PICTURE[60:]])
    assert keeping.lost
    assert store.open_sinks == 0


def test_a_sink_that_cannot_give_back_and_has_taken_nothing_costs_nothing() -> None:
    store = SpyStore(fails="write")
    keeping = StoreWriter(store, FOX, overflow_of())
    keeping.write([PICTURE])
    store.fails = None
    keeping.commit(facts_of(PICTURE))
    assert store.committed == [PICTURE]
