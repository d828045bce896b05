"""Keeps images as files in a folder: each file appears complete under its final name and replaces no other file.

Bytes go to a fresh temporary file; a commit gives the closed file its final name.
"""
# Paths are plain strings in this room, as the calls of `os` want them; a Path costs more than many of those.
# ruff: noqa: PTH116, PTH118

from __future__ import annotations

import errno
import itertools
import os
import threading
from typing import TYPE_CHECKING

from imagen_async.stores.folders import make_below, make_root, refuse_unless_folder, store_error
from imagen_async.stores.names import safe_name, shard
from imagen_async.stores.preallocation import Preallocator
from imagen_async.stores.publisher import Publisher, candidates
from imagen_async.stores.recovery import Found, adopt, sweep, temporary_name
from imagen_async.stores.sink import LocalSink
from imagen_async.wire.image import EXTENSIONS, MOST_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagen_async.stores.store import ImageName

__all__ = ["LocalStore"]

_FRESH = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
"""O_BINARY is Windows' own and keeps it from changing line ends."""
_MODE = 0o644


class LocalStore:
    """Writes images to files, ``<root>/<two hex digits>/<safe name>-<index>.png``; nothing is ever overwritten.

    If the name is taken, ``~2`` (``~3``, …) is put before the extension. The extension follows the format of the bytes.
    Folders are made when the first image arrives.

    Args:
        root: The folder; neither it nor anything in it may be a symbolic link.
        fsync: Make a committed image survive a loss of power, not only the end of the process.
        temporary: Folder for unfinished files, on the same file system; by default ``<root>/.partial``.

    Example:
        >>> import tempfile
        >>> from imagen_async.wire.image import Facts
        >>> from imagen_async.stores import ImageName
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sink = LocalStore(folder).open(ImageName("red-fox_7", 0))
        ...     sink.write(b"...")
        ...     kept = sink.commit(Facts("png", width=1024, height=1024, size=3))
        ...     os.path.relpath(kept.path, folder)
        'bf/red-fox_7-0.png'
    """

    def __init__(
        self, root: str | os.PathLike[str], *, fsync: bool = False, temporary: str | os.PathLike[str] | None = None
    ) -> None:
        self._root = os.fspath(root) or os.curdir
        self._fsync = fsync
        self._temporary_is_below = temporary is None
        self._temporary = os.path.join(self._root, ".partial") if temporary is None else os.fspath(temporary)
        self._token = os.urandom(6).hex()
        self._numbers = itertools.count()
        self._ready = False
        self._shards: set[str] = set()
        self._publisher = Publisher(fsync=fsync)
        self._preallocator = Preallocator()
        self._lock = threading.Lock()

    @property
    def writers(self) -> int:
        """Useful writer threads: syncs wait for the disk, plain writes copy memory and would compete with the loop."""
        return 4 if self._fsync else 1

    def __repr__(self) -> str:
        return f"LocalStore({self._root!r}, fsync={self._fsync})"

    def open(self, name: ImageName, /) -> LocalSink:
        """Begin an image in a temporary file.

        Raises:
            StoreError: A folder or the file cannot be created.
        """
        if not self._ready:
            self._make_folders()
        while True:
            path = os.path.join(self._temporary, temporary_name(self._token, next(self._numbers)))
            try:
                file = os.open(path, _FRESH, _MODE)
            except FileExistsError:
                continue  # A forked process continues from the same number.
            except OSError as error:
                self._ready = False  # If the folder was removed, the next image makes it again.
                raise store_error("open the temporary file", path, error) from error
            return LocalSink(
                name, path, file, fsync=self._fsync, preallocator=self._preallocator, publish=self._publish
            )

    def find(
        self, name: ImageName, *, unwanted: Callable[[Found], bool] | None = None, max_pixels: int = MOST_PIXELS
    ) -> Found | None:
        """Find a file that was committed under this name, or under its ``~2`` and so on, and verify all of it.

        The newest file is tried first. Memory is bounded for files of any size. With ``fsync``, the file found is made
        durable, too.

        Args:
            name: The image's name.
            unwanted: Returns true for a complete file to pass over.
            max_pixels: Most pixels that the image may have.

        Returns:
            None if there is no such file, or none is a complete image of the format that its extension promises.

        Raises:
            StoreError: A file or its folder cannot be read, or the folder is a symbolic link.
        """
        folder = os.path.join(self._root, shard(name.id))
        try:
            if folder not in self._shards:
                refuse_unless_folder(folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise store_error("read the folder", folder, error) from error
        stem = os.path.join(folder, _stem(name))
        for kind, ending in EXTENSIONS.items():
            taken = itertools.takewhile(os.path.lexists, candidates(stem, ending))
            for path in reversed(list(taken)):
                found = adopt(path, kind, durable=self._fsync, max_pixels=max_pixels)
                if found and not (unwanted and unwanted(found)):
                    return found
        return None

    def sweep(self) -> int:
        """Remove the temporary files that earlier runs left; only the holder of the folder's lock may call this.

        Returns:
            The number of files removed. Files of this store's own open sinks stay.

        Raises:
            StoreError: The temporary folder cannot be read, or one of the files cannot be removed.
        """
        try:
            refuse_unless_folder(self._temporary)
            return sweep(self._temporary, spare=self._token)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise store_error("remove leftover temporary files from", self._temporary, error) from error

    def _make_folders(self) -> None:
        with self._lock:
            path = self._root
            try:
                make_root(path, durable=self._fsync)
                path = self._temporary
                if self._temporary_is_below:
                    make_below(path, durable=False)
                else:
                    make_root(path, durable=False)
                _refuse_another_file_system(path, self._root)
            except OSError as error:
                raise store_error("use the folder", path, error) from error
            self._ready = True

    def _publish(self, temporary: str, name: ImageName, ending: str) -> str:
        """Give a finished file its final name and return that name.

        Raises:
            StoreError: Something that is not a folder has the shard's name.
            OSError: The link, the rename or the sync failed.
        """
        folder = os.path.join(self._root, shard(name.id))
        if folder not in self._shards:
            with self._lock:  # So that no thread relies on a folder that is not yet durable.
                make_below(folder, durable=self._fsync)
                self._shards.add(folder)
        try:
            return self._publisher.publish(temporary, os.path.join(folder, _stem(name)), ending)
        except FileNotFoundError:
            self._shards.discard(folder)  # If the folder was removed, the next image makes it again.
            raise


def _stem(name: ImageName) -> str:
    return f"{safe_name(name.id)}-{name.index}"


def _refuse_another_file_system(temporary: str, root: str) -> None:
    if os.stat(temporary).st_dev != os.stat(root).st_dev:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
