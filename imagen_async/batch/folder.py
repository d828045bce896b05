"""The files of an output folder: what they are called, and that each is there itself and not somewhere else.

The rule: nothing is written through a symbolic link, nor into a pipe or a device. All names are looked at before
anything is sent; files are opened so that a link which took a name's place meanwhile is not followed. The folders above
the output folder are the user's own business. What stands in the files is not known here.
"""

from __future__ import annotations

import os
import stat
from contextlib import contextmanager, suppress
from itertools import chain
from typing import TYPE_CHECKING

from imagen_async.batch.journal.lock import LOCK_NAME
from imagen_async.batch.journal.schema import JOURNAL_NAME
from imagen_async.exceptions import ConfigurationError, StoreError, printable
from imagen_async.stores.folders import link_words

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

__all__ = [
    "ERRORS_NAME",
    "IMAGES_NAME",
    "INNER_NAME",
    "INVALID_NAME",
    "METADATA_NAME",
    "TEMPORARY_NAME",
    "opened",
    "refuse_links",
    "translated",
    "write",
]

IMAGES_NAME = "images"
METADATA_NAME = "metadata.jsonl"
ERRORS_NAME = "errors.jsonl"
INVALID_NAME = "invalid.jsonl"
INNER_NAME = ".imagen"
TEMPORARY_NAME = "tmp"

# What SQLite puts beside a database.
_DATABASE = ("", "-wal", "-shm", "-journal")

_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def refuse_links(folder: Path) -> None:
    """Do nothing if an output folder, and what a run writes to in it, is there itself or not at all.

    Raises:
        ConfigurationError: Something is a symbolic link, or of another kind than it should be.
    """
    if words := link_words(folder):
        raise ConfigurationError(f"the output {words}")
    mode = _mode(folder)
    if mode is not None and not stat.S_ISDIR(mode):
        raise ConfigurationError(f"the output {printable(str(folder), 4096)} is not a folder")
    for path in chain(_folders(folder), _shards(folder / IMAGES_NAME)):
        _refuse_unless(stat.S_ISDIR, path, "folder")
    for path in _files(folder):
        _refuse_unless(stat.S_ISREG, path, "file")


def _folders(folder: Path) -> Iterator[Path]:
    yield folder / IMAGES_NAME
    yield folder / INNER_NAME
    yield folder / INNER_NAME / TEMPORARY_NAME


def _shards(images: Path) -> Iterator[Path]:
    # One that cannot be looked into is refused by the first file that should go there.
    with suppress(OSError), os.scandir(images) as entries:
        yield from (images / entry.name for entry in entries if entry.is_symlink())


def _files(folder: Path) -> Iterator[Path]:
    yield from (folder / name for name in (METADATA_NAME, ERRORS_NAME, INVALID_NAME))
    yield from (folder / INNER_NAME / f"{name}{more}" for name in (JOURNAL_NAME, LOCK_NAME) for more in _DATABASE)


def _refuse_unless(fits: Callable[[int], bool], path: Path, kind: str) -> None:
    mode = _mode(path)
    if mode is None or fits(mode):
        return
    found = "a symbolic link, and nothing is written through one" if stat.S_ISLNK(mode) else f"no {kind}"
    raise ConfigurationError(f"{printable(str(path), 4096)} is {found}: move it away and run again")


@contextmanager
def opened(path: Path, flags: int = 0) -> Iterator[int]:
    """Open a file to read and write it, never through a link; closed at the end.

    Raises:
        StoreError: It is a link or no plain file.
        OSError: It cannot be opened.
    """
    # Looked at before it is opened: opening a FIFO would wait for ever.
    mode = _mode(path)
    if mode is not None and not stat.S_ISREG(mode):
        raise StoreError(
            f"{printable(str(path))} is a link or no plain file, and is not written to: remove it", path=str(path)
        )
    descriptor = os.open(path, _FLAGS | flags, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the system's errors into a `StoreError` that names the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{printable(str(path))} cannot be written: {error.strerror or error}", path=str(path)
        ) from error


def write(descriptor: int, data: bytes | bytearray) -> None:
    """Write all of `data`.

    Raises:
        OSError: It cannot be written.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except OSError:
        return None
