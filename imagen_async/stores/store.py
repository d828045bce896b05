"""What a store is: the few methods that the rest of the library needs of any place that keeps images.

A store is synchronous on purpose. Its methods are called in writer threads, not on the event loop: one call at a time
for each sink, but several sinks at once from several threads. A store may say how many threads it is worth, by an
attribute ``writers``; 0 says that its calls wait for nothing and may come on the loop. Whether the bytes are a whole
image is not a store's business: it is told so by `commit`, and must show nothing under a final name before that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

from imagen_async.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagen_async.wire.image import Facts

__all__ = ["ImageName", "Kept", "Sink", "Store", "write_all"]


def _check_index(_name: object, _field: object, index: int) -> None:
    # A minus sign would make index -1 of "a" the same file name as index 1 of "a-".
    if index < 0:
        raise UsageError(f"an image's index counts from 0, it cannot be {index}")


@attrs.frozen
class ImageName:
    """What an image is called; the store makes a safe place of it.

    Attributes:
        id: The job's name: any text at all, also text that no file system takes.
        index: The image's place among the job's images, from 0.

    Raises:
        UsageError: The index is negative.
    """

    id: str
    index: int = attrs.field(validator=_check_index)


@attrs.frozen
class Kept:
    """Where a committed image is now.

    Attributes:
        path: The file, or whatever the store calls the place; None if there is none.
        data: The bytes, if the store keeps them in memory.
    """

    path: str | None = None
    data: bytes | None = attrs.field(default=None, repr=False)


class Sink(Protocol):
    """Takes the bytes of one image; made by `Store.open`.

    A `commit` that goes well or `discard` ends it; `discard` may come at any time, also after `commit` or twice, and
    always comes after a call that failed. A sink for which a call costs more than its bytes may have a
    ``write_all(parts)`` as well, which does what `write` does for several spans. One that can give back the bytes of
    all calls that went well may have a ``taken()`` that does so, when another has failed: then the image is not lost
    with it.
    """

    def write(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes, in order; `data` is not to be kept, its buffer is used again.

        Raises:
            StoreError: The bytes cannot be kept.
        """

    def commit(self, facts: Facts, /) -> Kept:
        """Make the image visible under its final name: it is whole, and `facts` is what it is.

        Raises:
            StoreError: The image cannot be kept; nothing of it is visible.
        """

    def discard(self) -> None:
        """Forget the image, unless it is committed; never raises for what is already gone."""


def write_all(sink: Sink, parts: Sequence[bytes]) -> None:
    """Write some spans in as few calls as `sink` allows.

    Raises:
        StoreError: As `Sink.write`.
    """
    gathering = getattr(sink, "write_all", None)
    if gathering is not None:
        gathering(parts)
        return
    for part in parts:
        sink.write(part)


class Store(Protocol):
    """A place that keeps images.

    Example:
        A store of one's own: all images into one ZIP file, each whole or not at all.

        >>> import io, threading, zipfile
        >>> from imagen_async.wire.image import EXTENSIONS, Facts
        >>> from imagen_async.stores import ImageName, Kept, safe_name
        >>> class ZipStore:
        ...     def __init__(self, archive):
        ...         self.archive, self.lock = archive, threading.Lock()
        ...     def open(self, name, /):
        ...         return ZipSink(self, name)
        >>> class ZipSink:
        ...     def __init__(self, store, name):
        ...         self.store, self.name, self.bytes = store, name, io.BytesIO()
        ...     def write(self, data, /):
        ...         self.bytes.write(data)
        ...     def commit(self, facts, /):
        ...         path = f"{safe_name(self.name.id)}-{self.name.index}{EXTENSIONS[facts.format]}"
        ...         with self.store.lock:
        ...             self.store.archive.writestr(path, self.bytes.getbuffer())
        ...         return Kept(path=path)
        ...     def discard(self):
        ...         self.bytes = io.BytesIO()
        >>> with zipfile.ZipFile(io.BytesIO(), "w") as archive:
        ...     sink = ZipStore(archive).open(ImageName("fox", 0))
        ...     sink.write(b"...")
        ...     sink.commit(Facts("png", width=1024, height=1024, size=3))
        Kept(path='fox-0.png')
    """

    def open(self, name: ImageName, /) -> Sink:
        """Begin an image; nothing is visible yet.

        Raises:
            StoreError: The store cannot take images.
        """
