"""Images kept in memory: the store for one image at a time, for tests, and for bytes that go elsewhere at once.

Nothing is held by the store itself: a committed image belongs to whoever got its `Kept`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagen_async.exceptions import StoreError
from imagen_async.stores.store import ImageName, Kept

if TYPE_CHECKING:
    from imagen_async.wire.image import Facts

__all__ = ["MemoryStore"]


class MemoryStore:
    """Give each image back as bytes.

    Example:
        >>> from imagen_async.wire.image import Facts
        >>> sink = MemoryStore().open(ImageName("fox", 0))
        >>> sink.write(b"...")
        >>> sink.commit(Facts("png", width=1024, height=1024, size=3)).data
        b'...'
    """

    writers = 0
    """Nothing here waits for a disk or a network, so no thread is needed."""

    def open(self, name: ImageName, /) -> MemorySink:
        """Begin an image."""
        return MemorySink(name)

    def __repr__(self) -> str:
        return "MemoryStore()"


class MemorySink:
    """Gathers one image."""

    __slots__ = ("_name", "_parts")

    def __init__(self, name: ImageName) -> None:
        self._name = name
        self._parts: list[bytes] | None = []

    def write(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes.

        Raises:
            StoreError: The image was committed or discarded before.
        """
        self._open_parts().append(bytes(data))

    def commit(self, _facts: Facts, /) -> Kept:
        """Give the image back.

        Raises:
            StoreError: The image was committed or discarded before.
        """
        # A single part is given away as it is, so such an image is in memory once.
        data = b"".join(self._open_parts())
        self._parts = None
        return Kept(data=data)

    def discard(self) -> None:
        """Forget the bytes."""
        self._parts = None

    def _open_parts(self) -> list[bytes]:
        if self._parts is None:
            raise StoreError(f"image {self._name.index} was committed or discarded before; open another sink")
        return self._parts
