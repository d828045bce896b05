"""One image on its way into a store that may fail: what the store does not take goes on into memory.

The image is paid for, so a full disk must not cost it. What the store had taken is read back, what comes after it is
held beside it, and a commit that failed can be made again: with a fresh sink, never with the one that failed. All of it
runs in writer threads. Nothing here knows how an image came, and how long it is worth waiting for the store.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagen_async.exceptions import ProtocolError, StoreError
from imagen_async.stores import ImageName, Kept, Sink, Store, write_all
from imagen_async.wire.image import Inspector

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagen_async.receiver.spill import Spill
    from imagen_async.wire.image import Facts

__all__ = ["StoreWriter"]


class StoreWriter:
    """Puts one image into a store.

    Args:
        store: Where it goes.
        name: What it is called.
        overflow: Room in memory for what the store does not take.

    Attributes:
        trouble: What the store said when it last failed, or None.
        lost: Whether bytes of the image are neither in the store nor in memory.
    """

    def __init__(self, store: Store, name: ImageName, overflow: Spill) -> None:
        self.trouble: StoreError | None = None
        self.lost = False
        self._store = store
        self._name = name
        self._overflow = overflow
        self._sink: Sink | None = None
        self._written = 0
        self._held: list[bytes] | None = None
        """The whole image so far, once the store has failed."""
        self._room = 0

    @property
    def open(self) -> bool:
        """Whether there is something to be discarded."""
        return self._sink is not None or self._held is not None

    def write(self, parts: Sequence[bytes]) -> None:
        """Take the next bytes.

        Raises:
            StoreError: The store fails, and there is no room in memory: the image is lost.
        """
        if self._held is None:
            try:
                self._put(parts)
            except StoreError as error:
                self._rescue(error)
            else:
                self._written += sum(map(len, parts))
                return
        self._hold(parts)

    def commit(self, facts: Facts) -> Kept:
        """Make the image visible.

        Raises:
            StoreError: The store fails; unless the image is `lost`, this may be tried again.
        """
        try:
            if self._held is not None:
                self._put(self._verified(self._held, facts))
            assert self._sink is not None, "an image that is whole has bytes"  # noqa: S101 - the inspector says so
            kept = self._sink.commit(facts)
        except StoreError as error:
            self._rescue(error)
            raise
        self._sink = None
        self._drop()
        return kept

    def discard(self) -> None:
        """Forget the image, unless it is committed."""
        sink, self._sink = self._sink, None
        self._drop()
        if sink is not None:
            sink.discard()

    def _put(self, parts: Sequence[bytes]) -> None:
        if self._sink is None:
            self._sink = self._store.open(self._name)
        write_all(self._sink, parts)

    def _rescue(self, error: StoreError) -> None:
        """Go on in memory, with what the store has taken so far."""
        self.trouble = error
        sink, self._sink = self._sink, None
        try:
            if self._held is None:
                self._held = []
                self._read_back(sink)
        finally:
            if sink is not None:
                sink.discard()

    def _read_back(self, sink: Sink | None) -> None:
        if not self._written:
            return
        self._make_room(self._written)
        taken = getattr(sink, "taken", None)
        try:
            data: bytes = b"" if taken is None else taken()
        except StoreError:
            data = b""
        if len(data) != self._written:
            self._lose()
        self._held = [data]

    def _hold(self, parts: Sequence[bytes]) -> None:
        assert self._held is not None, "held from the first failure on"  # noqa: S101 - an order that only we can break
        self._make_room(sum(map(len, parts)))
        self._held += parts

    def _make_room(self, size: int) -> None:
        if not self._overflow.take(size):
            self._lose()
        self._room += size

    def _lose(self) -> None:
        self.lost = True
        self._drop()
        assert self.trouble is not None, "nothing is lost while the store works"  # noqa: S101 - as above
        raise self.trouble

    def _drop(self) -> None:
        self._held = None
        room, self._room = self._room, 0
        self._overflow.give_back(room)

    def _verified(self, parts: list[bytes], facts: Facts) -> list[bytes]:
        """Look at the image again: a part of it may have come back from a disk that fails."""
        inspector = Inspector(max_pixels=facts.width * facts.height)
        try:
            for part in parts:
                inspector.feed(part)
            same = inspector.finish() == facts
        except ProtocolError:
            same = False
        if not same:
            self._lose()
        return parts
