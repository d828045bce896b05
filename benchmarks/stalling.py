"""A store on a disk that stalls: every call to it waits, in its writer thread, until the disk takes bytes again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from benchmarks.contenders import wait_for_disk
from imagen_async import LocalStore
from imagen_async.stores.sink import LocalSink

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagen_async import ImageName, Kept
    from imagen_async.wire.image import Facts

__all__ = ["Stalling"]


@attrs.frozen
class Stalling:
    """Keeps images as `store` does, on a disk that stalls for `stall` seconds at a time."""

    store: LocalStore
    stall: float

    @property
    def writers(self) -> int:
        """Threads that the store itself asks for."""
        return self.store.writers

    def open(self, name: ImageName, /) -> _Sink:
        """Begin an image."""
        wait_for_disk(self.stall)
        return _Sink(self.store.open(name), self.stall)


@attrs.frozen
class _Sink:
    sink: LocalSink
    stall: float

    def write(self, data: bytes | memoryview, /) -> None:
        self.write_all((data,))

    def write_all(self, parts: Sequence[bytes | memoryview], /) -> None:
        wait_for_disk(self.stall)
        self.sink.write_all(parts)

    def commit(self, facts: Facts, /) -> Kept:
        wait_for_disk(self.stall)
        return self.sink.commit(facts)

    def discard(self) -> None:
        self.sink.discard()
