"""One image on its way into a folder: a file that grows under a temporary name until it is committed or gone.

The rule: however it ends, no open file and no temporary file stay behind, and a sync that failed is not tried again.
Which final name the file gets is decided by its store.
"""
# Paths are plain strings in this room, as the calls of `os` want them; a Path costs more than many of those.
# ruff: noqa: PTH108

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING

from imagen_async.exceptions import StoreError
from imagen_async.picture import EXTENSIONS
from imagen_async.stores.folders import store_error
from imagen_async.stores.store import ImageName, Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from imagen_async.picture import Facts

__all__ = ["LocalSink"]

_WRITES_MANY = hasattr(os, "writev")
_MOST_PARTS = 256
"""Spans in one call; systems take 1024 and more."""


class LocalSink:
    """Writes one image to its temporary file; made by `LocalStore.open`."""

    __slots__ = ("_file", "_fsync", "_name", "_path", "_publish")

    def __init__(
        self, name: ImageName, path: str, file: int, *, fsync: bool, publish: Callable[[str, ImageName, str], str]
    ) -> None:
        self._name = name
        self._path = path
        self._file = file
        self._fsync = fsync
        self._publish = publish

    def write(self, data: bytes | memoryview, /) -> None:
        """Append `data`.

        Raises:
            StoreError: The disk is full or fails, and the temporary file is gone; or the sink was ended before.
        """
        self.write_all((data,))

    def write_all(self, parts: Sequence[bytes | memoryview], /) -> None:
        """Append several spans, in one call to the system if it takes them all.

        Raises:
            StoreError: As `write`.
        """
        self._refuse_if_ended()
        try:
            for first in range(0, len(parts), _MOST_PARTS):
                _write(self._file, parts[first : first + _MOST_PARTS])
        except OSError as error:
            self._end()
            raise store_error("write", self._path, error) from error

    def commit(self, facts: Facts, /) -> Kept:
        """Give the file its final name.

        Raises:
            StoreError: It cannot be synced, closed or named, and is gone; or the sink was ended before.
        """
        self._refuse_if_ended()
        try:
            if self._fsync:
                os.fsync(self._file)
            file, self._file = self._file, -1  # A close that fails has closed all the same.
            os.close(file)
            return Kept(path=self._publish(self._path, self._name, EXTENSIONS[facts.format]))
        except OSError as error:
            raise store_error("keep the image", error.filename2 or error.filename or self._path, error) from error
        finally:
            self._end()

    def discard(self) -> None:
        """Close and remove the temporary file; what was committed stays."""
        if self._file >= 0:
            self._end()

    def _end(self) -> None:
        file, self._file = self._file, -1
        # What cannot be removed now is removed by the next run's sweep.
        with contextlib.suppress(OSError):
            if file >= 0:
                os.close(file)
        with contextlib.suppress(OSError):
            os.unlink(self._path)

    def _refuse_if_ended(self) -> None:
        if self._file < 0:
            raise StoreError(f"image {self._name.index} was committed or discarded before; open another sink")


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
        raise OSError(errno.EIO, "the disk takes no more bytes")
    return written
