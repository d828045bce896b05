"""Keeps images in memory: for single images, for tests, and for bytes that are passed on immediately.

The store itself holds nothing: a committed image belongs to the holder of its `Kept`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from imagen_async.exceptions import StoreError
from imagen_async.stores.store import ImageName, Kept

if TYPE_CHECKING:
    from imagen_async.wire.image import Facts

__all__ = ["MemoryStore"]


class MemoryStore:
    """Returns each image as bytes.

    Example:
        >>> from imagen_async.wire.image import Facts
        >>> sink = MemoryStore().open(ImageName("fox", 0))
        >>> sink.write(b"...")
        >>> sink.commit(Facts("png", width=1024, height=1024, size=3)).data
        b'...'
    """

    writers = 0
    """No call waits for a disk or a network, so no thread is needed."""

    def open(self, name: ImageName, /) -> MemorySink:
        """Begin an image."""
        return MemorySink(name)

    def __repr__(self) -> str:
        return "MemoryStore()"


class MemorySink:
    """Collects the bytes of one image."""

    __slots__ = ("_name", "_parts")

    def __init__(self, name: ImageName) -> None:
        self._name = name
        self._parts: list[bytes] | None = []

    def write(self, data: bytes | memoryview, /) -> None:
        """Append `data`.

        Raises:
            StoreError: The image was already committed or discarded.
        """
        self._open_parts().append(bytes(data))

    def commit(self, _facts: Facts, /) -> Kept:
        """Return the image's bytes.

        Raises:
            StoreError: The image was already committed or discarded.
        """
        # A single part is returned as it is, so such an image is in memory once.
        data = b"".join(self._open_parts())
        self._parts = None
        return Kept(data=data)

    def discard(self) -> None:
        """Drop the bytes."""
        self._parts = None

    def _open_parts(self) -> list[bytes]:
        if self._parts is None:
            raise StoreError(f"image {self._name.index} was already committed or discarded; open another sink")
        return self._parts
