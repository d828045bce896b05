"""Writes one image into a folder: a file that grows under a temporary name until it is committed or discarded.

The rule: an ended sink leaves no open file and no temporary file, and a failed sync is not repeated. The file is closed
before it is linked, renamed or removed, because Windows allows none of these for an open file.
"""
# Paths are plain strings in this room, as the calls of `os` want them; a Path costs more than many of those.
# ruff: noqa: PTH108, PTH123

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from imagen_async.exceptions import StoreError
from imagen_async.stores.folders import store_error
from imagen_async.stores.store import ImageName, Kept
from imagen_async.wire.image import EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imagen_async.stores.preallocation import Preallocator
    from imagen_async.wire.image import Facts

__all__ = ["LocalSink"]

_WRITES_MANY = hasattr(os, "writev")
_MOST_PARTS = 256
"""Spans in one call; systems accept 1024 and more."""


class LocalSink:
    """Writes one image to its temporary file; made by `LocalStore.open`."""

    __slots__ = ("_ended", "_failed", "_file", "_fsync", "_name", "_path", "_preallocator", "_publish", "_size")

    def __init__(
        self,
        name: ImageName,
        path: str,
        file: int,
        *,
        fsync: bool,
        preallocator: Preallocator,
        publish: Callable[[str, ImageName, str], str],
    ) -> None:
        self._name = name
        self._path = path
        self._file = file
        self._fsync = fsync
        self._preallocator = preallocator
        self._publish = publish
        self._size = 0
        self._failed = False
        self._ended = False

    def write(self, data: bytes | memoryview, /) -> None:
        """Append `data`.

        Raises:
            StoreError: The disk is full or failed; or the sink has failed or ended before.
        """
        self.write_all((data,))

    def write_all(self, parts: Sequence[bytes | memoryview], /) -> None:
        """Append several spans, in one system call if it accepts them all.

        Raises:
            StoreError: As `write`.
        """
        self._refuse_if_over()
        size = sum(map(len, parts))
        try:
            self._preallocator.reserve(self._file, self._size, size)
            for first in range(0, len(parts), _MOST_PARTS):
                _write(self._file, parts[first : first + _MOST_PARTS])
        except OSError as error:
            self._failed = True
            raise store_error("write", self._path, error) from error
        self._size += size

    def taken(self) -> bytes:
        """Read back the bytes of all successful calls.

        Raises:
            StoreError: They cannot be read; or the sink has ended before.
        """
        if self._ended:
            raise self._over()
        try:
            return _read(self._path, self._size)
        except OSError as error:
            raise store_error("read back", self._path, error) from error

    def commit(self, facts: Facts, /) -> Kept:
        """Give the file its final name.

        Raises:
            StoreError: The file cannot be synced, closed or named; or the sink has failed or ended before.
        """
        self._refuse_if_over()
        try:
            if self._fsync:
                os.fsync(self._file)
            file, self._file = self._file, -1  # A failed close has closed the file, too.
            os.close(file)
            kept = Kept(path=self._publish(self._path, self._name, EXTENSIONS[facts.format]))
        except OSError as error:
            self._failed = True
            raise store_error("keep the image", error.filename2 or error.filename or self._path, error) from error
        self._end()
        return kept

    def discard(self) -> None:
        """Close and remove the temporary file; a committed image stays."""
        if not self._ended:
            self._end()

    def _end(self) -> None:
        self._ended = True
        file, self._file = self._file, -1
        # The next run's sweep removes what cannot be removed now.
        with contextlib.suppress(OSError):
            if file >= 0:
                os.close(file)
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _refuse_if_over(self) -> None:
        if self._ended or self._failed:
            raise self._over()

    def _over(self) -> StoreError:
        return StoreError(
            f"image {self._name.index} was already committed or discarded, or has failed before; open another sink"
        )


def _read(path: str, size: int) -> bytes:
    with open(path, "rb") as file:
        return file.read(size)


def _write(file: int, parts: Sequence[bytes | memoryview]) -> None:
    written = os.writev(file, parts) if len(parts) > 1 and _WRITES_MANY else os.write(file, parts[0])
    for part in parts:
        if written < len(part):
            rest = memoryview(part)[written:]
            while rest:
                rest = rest[_write_more(file, rest) :]
        written = max(0, written - len(part))


def _write_more(file: int, rest: memoryview) -> int:
    written = os.write(file, rest)
    if not written:
        raise OSError(errno.EIO, "the disk accepts no more bytes")
    return written
