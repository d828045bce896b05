"""Images as files in a folder: each one appears under its final name at once, whole, and over nothing.

The rule: bytes go to a fresh temporary name, and a commit gives that file its final name by a hard link, which no
system lets replace a file (a rename does, silently, and makes ext4 flush). On ext4 the link and the removal of the
temporary name took 13 µs, a rename 11 µs, a check for existence and a rename 16 µs: safety is free here. Where there
are no hard links, it is check and rename. Nothing here knows what a request is or looks into an image.
"""
# Paths are plain strings in this room, as the calls of `os` want them; a Path costs more than many of those.
# ruff: noqa: PTH104, PTH108, PTH116, PTH118

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import threading
from typing import TYPE_CHECKING

from imagen_async.stores.folders import make_below, make_root, refuse_unless_folder, store_error, sync_folder
from imagen_async.stores.names import safe_name, shard
from imagen_async.stores.preallocation import Room
from imagen_async.stores.recovery import Found, adopt, sweep, temporary_name
from imagen_async.stores.sink import LocalSink
from imagen_async.wire.image import EXTENSIONS, MOST_PIXELS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from imagen_async.stores.store import ImageName

__all__ = ["LocalStore"]

# Not every system has every flag; O_BINARY is Windows' own, to leave line ends alone.
_FRESH = sum(getattr(os, flag, 0) for flag in ("O_CREAT", "O_EXCL", "O_NOFOLLOW", "O_CLOEXEC", "O_BINARY"))
_WRITING = os.O_WRONLY | _FRESH
_MODE = 0o644

_NO_LINKS = frozenset(
    {
        errno.EPERM,  # FAT, exFAT, many FUSE systems
        errno.ENOTSUP,
        errno.EOPNOTSUPP,
        errno.ENOSYS,
        errno.EMLINK,  # systems that allow a file one name
        errno.EACCES,  # Android
        errno.EXDEV,  # AFS, between folders
        errno.EINVAL,  # FAT on Windows
    }
)
"""What systems without hard links say. Where one of these means something else, the rename fails of it, too."""


class LocalStore:
    """Keep images as files, ``<root>/<two hex digits>/<safe name>-<index>.png``; nothing is ever overwritten.

    Where the name is taken, ``~2`` (``~3``, …) goes before the extension, which says what the bytes are. Folders are
    made when the first image comes.

    Args:
        root: The folder; no symbolic link, nor is anything in it.
        fsync: Whether a committed image must survive a loss of power, not only the end of the process.
        temporary: Where files grow, on the same file system; by default ``<root>/.partial``.

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
        self._links = hasattr(os, "link")
        self._room = Room()
        self._lock = threading.Lock()

    @property
    def writers(self) -> int:
        """Threads that it is worth: what syncs waits for the disk; what only copies memory would vie with the loop."""
        return 4 if self._fsync else 1

    def __repr__(self) -> str:
        return f"LocalStore({self._root!r}, fsync={self._fsync})"

    def open(self, name: ImageName, /) -> LocalSink:
        """Begin an image in a temporary file.

        Raises:
            StoreError: A folder or the file cannot be made.
        """
        if not self._ready:
            self._make_folders()
        while True:
            path = os.path.join(self._temporary, temporary_name(self._token, next(self._numbers)))
            try:
                file = os.open(path, _WRITING, _MODE)
            except FileExistsError:
                continue  # A forked process counts on from the same number.
            except OSError as error:
                self._ready = False  # If the folder is gone, the next image makes it again.
                raise store_error("open the temporary file", path, error) from error
            return LocalSink(name, path, file, fsync=self._fsync, room=self._room, publish=self._publish)

    def find(
        self, name: ImageName, *, unwanted: Callable[[Found], bool] | None = None, max_pixels: int = MOST_PIXELS
    ) -> Found | None:
        """Look for a file that was committed under exactly this name, or under its ``~2`` and so on, and verify it all.

        The newest comes first. Memory stays bounded whatever the file's size. With ``fsync``, what is found is made
        durable, too.

        Args:
            name: Of the image.
            unwanted: Says whether a whole file is passed over.
            max_pixels: Most pixels that it may have.

        Returns:
            None if there is no such file, or none is a whole image of the kind that its name says.

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
            raise store_error("look into", folder, error) from error
        stem = os.path.join(folder, _stem(name))
        for kind, ending in EXTENSIONS.items():
            for path in reversed(list(_taken(stem, ending))):
                found = adopt(path, kind, durable=self._fsync, max_pixels=max_pixels)
                if found and not (unwanted and unwanted(found)):
                    return found
        return None

    def sweep(self) -> int:
        """Remove the temporary files that earlier runs left; only for the holder of the folder's lock.

        Returns:
            How many were removed. Files of this store's own open sinks are not.

        Raises:
            StoreError: The temporary folder cannot be read, or one of the files cannot be removed.
        """
        try:
            refuse_unless_folder(self._temporary)
            return sweep(self._temporary, spare=self._token)
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise store_error("remove left-over temporary files from", self._temporary, error) from error

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
        """Give a finished file its final name and return that.

        Raises:
            StoreError: The shard is no folder.
            OSError: The link, the rename or the sync fails.
        """
        folder = os.path.join(self._root, shard(name.id))
        if folder not in self._shards:
            with self._lock:  # Under the lock, so that no thread relies on a folder that is not yet durable.
                make_below(folder, durable=self._fsync)
                self._shards.add(folder)
        stem = os.path.join(folder, _stem(name))
        names = _names(stem, ending)
        final = next(names)
        try:
            while not self._place(temporary, final):
                final = next(names)
        except FileNotFoundError:
            self._shards.discard(folder)  # If the folder is gone, the next image makes it again.
            raise
        if self._fsync:
            _sync_or_remove(folder, final)
        return final

    def _place(self, temporary: str, final: str) -> bool:
        """Name the file `final` if nothing else is called so, and say whether that was done."""
        if self._links:
            try:
                os.link(temporary, final)
            except FileExistsError:
                return False
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
            else:
                return True
        with self._lock:
            if os.path.lexists(final):
                return False
            os.rename(temporary, final)
            self._links = False
            return True


def _stem(name: ImageName) -> str:
    return f"{safe_name(name.id)}-{name.index}"


def _names(stem: str, ending: str) -> Iterator[str]:
    yield stem + ending
    yield from (f"{stem}~{taken}{ending}" for taken in itertools.count(2))


def _taken(stem: str, ending: str) -> Iterator[str]:
    return itertools.takewhile(os.path.lexists, _names(stem, ending))


def _refuse_another_file_system(temporary: str, root: str) -> None:
    if os.stat(temporary).st_dev != os.stat(root).st_dev:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


def _sync_or_remove(folder: str, final: str) -> None:
    try:
        sync_folder(folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(final)
        raise
