"""A store that keeps nothing and notes everything, and fails where a test wants it to."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import attrs

from imagen_async.exceptions import StoreError
from imagen_async.stores import ImageName, Kept

if TYPE_CHECKING:
    from imagen_async.wire.image import Facts

__all__ = ["SpySink", "SpyStore"]


@attrs.define(eq=False)
class SpySink:
    """One image; `ending` is None while it is open."""

    name: ImageName
    fails: str | None
    data: bytearray = attrs.field(factory=bytearray, repr=False)
    ending: str | None = None
    threads: set[str] = attrs.field(factory=set)

    def write(self, data: bytes | memoryview, /) -> None:
        """Note the bytes."""
        self._maybe_fail("write")
        self.data += data

    def commit(self, facts: Facts, /) -> Kept:
        """Note the commit."""
        self._maybe_fail("commit")
        assert facts.size == len(self.data)
        self.ending = "committed"
        return Kept(path=f"{self.name.id}-{self.name.index}")

    def discard(self) -> None:
        """Note it, unless the image is committed."""
        self.threads.add(threading.current_thread().name)
        self.ending = self.ending or "discarded"

    def _maybe_fail(self, step: str) -> None:
        self.threads.add(threading.current_thread().name)
        assert self.ending is None, f"{step} after the end"
        if self.fails == step:
            raise StoreError("the disk is full", path="spied")


@attrs.define(eq=False)
class SpyStore:
    """Opens `SpySink`s.

    Attributes:
        fails: ``"open"``, ``"write"`` or ``"commit"``: what fails, from image `from_index` on.
        sinks: Every sink, in order.
    """

    fails: str | None = None
    from_index: int = 0
    sinks: list[SpySink] = attrs.field(factory=list)

    def open(self, name: ImageName, /) -> SpySink:
        """Begin an image."""
        fails = self.fails if name.index >= self.from_index else None
        if fails == "open":
            raise StoreError("the disk is full", path="spied")
        self.sinks.append(SpySink(name, fails))
        return self.sinks[-1]

    @property
    def committed(self) -> list[bytes]:
        """The images that were committed, in the order of their index."""
        kept = [sink for sink in self.sinks if sink.ending == "committed"]
        return [bytes(sink.data) for sink in sorted(kept, key=lambda sink: sink.name.index)]

    @property
    def open_sinks(self) -> int:
        """How many sinks were neither committed nor discarded."""
        return sum(sink.ending is None for sink in self.sinks)
