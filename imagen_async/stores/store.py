"""The protocols of a store: the methods that the library calls to keep images.

A store is synchronous on purpose. Its methods are called in writer threads: one call at a time for each sink, and
several sinks concurrently. Whether the bytes are a complete image is not the store's concern: it learns that by
`commit`, and shows nothing under a final name before.

`write_all`, `taken` and `writers` are optional. A store that has them derives from the protocol that declares them, so
that a type checker sees a misspelt name; at run time one is refused by `checked_store` or reported by `write_all`.
"""

from __future__ import annotations

import os
import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol

import attrs

from imagen_async._validation import shown
from imagen_async.exceptions import ConfigurationError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imagen_async.wire.image import Facts

__all__ = [
    "USUAL_WRITERS",
    "GatheringSink",
    "ImageName",
    "Kept",
    "ReadableSink",
    "Sink",
    "Store",
    "ThreadedStore",
    "checked_store",
    "write_all",
]

USUAL_WRITERS = 4
"""Threads for a store without `writers`: most stores wait for something."""

_NEAR = 0.85
"""How alike two names are of which one is probably a misspelling of the other; 1 is equal."""
_CHECKED_SINKS: set[type] = set()


def _check_index(_name: object, _field: object, index: int) -> None:
    # A minus sign would make index -1 of "a" the same file name as index 1 of "a-".
    if index < 0:
        raise UsageError(f"an image's index must be 0 or more, not {index}")


@attrs.frozen
class ImageName:
    """The name of an image; a store derives a safe place from it.

    Attributes:
        id: The job's name: any text, also text that no file system accepts.
        index: The image's place among the job's images, from 0.

    Raises:
        UsageError: The index is negative.
    """

    id: str
    index: int = attrs.field(validator=_check_index)


@attrs.frozen
class Kept:
    """The place of a committed image.

    Attributes:
        path: The file, or the name that the store gives to the place; None if there is none.
        data: The bytes, if the store keeps them in memory.
    """

    path: str | None = None
    data: bytes | None = attrs.field(default=None, repr=False)


class Sink(Protocol):
    """Takes the bytes of one image; created by `Store.open`.

    A successful `commit` or a `discard` ends it. `discard` may be called at any time, also after `commit` or twice, and
    is always called after a call that failed.
    """

    def write(self, data: bytes | memoryview, /) -> None:
        """Write the next bytes, in order; do not keep `data`, because its buffer is reused.

        Raises:
            StoreError: The bytes cannot be kept.
        """

    def commit(self, facts: Facts, /) -> Kept:
        """Make the image visible under its final name; it is complete, and `facts` describe it.

        Raises:
            StoreError: The image cannot be kept; nothing of it is visible.
        """
        ...

    def discard(self) -> None:
        """Forget the image unless it is committed; what is already gone is not an error."""


class GatheringSink(Sink, Protocol):
    """A sink for which a call costs more than its bytes, such as one that writes to a network."""

    def write_all(self, parts: Sequence[bytes], /) -> None:
        """Do what `write` does, for several spans.

        Raises:
            StoreError: The bytes cannot be kept.
        """


class ReadableSink(Sink, Protocol):
    """A sink that can return what it has accepted: if a later call fails, the image is not lost."""

    def taken(self) -> bytes:
        """Return the bytes of all successful calls.

        Raises:
            StoreError: They cannot be read.
        """
        ...


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
            StoreError: The store cannot accept images.
        """
        ...


class ThreadedStore(Store, Protocol):
    """A store that says how many writer threads it can use; any other store gets four."""

    @property
    def writers(self) -> int:
        """Useful threads; 0 if no call ever waits, and all may run in the event loop."""
        ...


def checked_store(store: Store) -> Store:
    """Return a store if it can be one: its first call would come only when images are paid for.

    Raises:
        ConfigurationError: It has no method `open`, its `writers` is not a number of threads, or it has another name
            that looks like `writers`.

    Example:
        >>> checked_store("foxes")
        Traceback (most recent call last):
        imagen_async.exceptions.ConfigurationError: store must be a Store, not 'foxes'; use LocalStore('foxes') for ...
    """
    if isinstance(store, str | os.PathLike):
        path = shown(os.fspath(store))
        raise ConfigurationError(f"store must be a Store, not {path}; use LocalStore({path}) for files in that folder")
    if isinstance(store, type) or not callable(getattr(store, "open", None)):
        what = f"the class {store.__name__}" if isinstance(store, type) else shown(store)
        raise ConfigurationError(f"store must be an object with a method open, such as a LocalStore, not {what}")
    threads = getattr(store, "writers", None)
    if type(threads) is int and threads >= 0:
        return store
    if threads is None:
        names = (*dir(type(store)), *getattr(store, "__dict__", ()))
        if misspelt := _misspelt(names, "writers"):
            raise ConfigurationError(f"the store {type(store).__name__} {misspelt} Rename it, or add writers")
    else:
        raise ConfigurationError(f"{type(store).__name__}.writers must be a whole number from 0, not {shown(threads)}")
    return store


def write_all(sink: Sink, parts: Sequence[bytes]) -> None:
    """Write some spans in as few calls as `sink` allows.

    Warns:
        UserWarning: Once for each class of sinks with a name that looks like `write_all` or `taken`.

    Raises:
        StoreError: As `Sink.write`.
    """
    if type(sink) not in _CHECKED_SINKS:
        _CHECKED_SINKS.add(type(sink))
        for wanted in ("write_all", "taken"):
            if misspelt := _misspelt(dir(type(sink)), wanted):
                warnings.warn(f"the sink {type(sink).__name__} {misspelt}", UserWarning, stacklevel=2)
    gathering = getattr(sink, "write_all", None)
    if gathering is not None:
        gathering(parts)
        return
    for part in parts:
        sink.write(part)


def _misspelt(names: Iterable[str], wanted: str) -> str | None:
    """Return a question about a public name that looks like `wanted`, unless `wanted` is there or nothing looks so."""
    public = {name.lower(): name for name in names if not name.startswith("_") and name != "writes"}
    near = get_close_matches(wanted, public, n=1, cutoff=_NEAR)
    return f"has {public[near[0]]}; did you mean {wanted}?" if near and near[0] != wanted else None
