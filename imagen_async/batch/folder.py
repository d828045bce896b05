"""The files of an output folder: their names, and how they are opened and written.

Nothing is written through a symbolic link, nor into a pipe or a device. All names are checked before anything is sent;
files are opened so that a link that replaced one meanwhile is not followed. The folders above the output folder are the
user's choice.
"""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal

from imagen_async.batch.journal.lock import LOCK_NAME
from imagen_async.batch.journal.schema import JOURNAL_NAME
from imagen_async.exceptions import ConfigurationError, StoreError, printable
from imagen_async.stores.folders import link_words, mismatch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import BinaryIO

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
]

IMAGES_NAME = "images"
METADATA_NAME = "metadata.jsonl"
ERRORS_NAME = "errors.jsonl"
INVALID_NAME = "invalid.jsonl"
INNER_NAME = ".imagen"
TEMPORARY_NAME = "tmp"

# Endings of the files that SQLite makes beside a database.
_DATABASE = ("", "-wal", "-shm", "-journal")

_BUFFER_BYTES = 1 << 17
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


def refuse_links(folder: Path) -> None:
    """Check that the output folder, and everything that a run writes to in it, is real or does not exist.

    Raises:
        ConfigurationError: Something is a symbolic link, or not the folder or file that it should be.
    """
    if words := link_words(folder):
        raise ConfigurationError(f"the output {words}")
    _refuse_mismatch(folder, "folder")
    inner = folder / INNER_NAME
    for path in (folder / IMAGES_NAME, inner, inner / TEMPORARY_NAME, *_links_in(folder / IMAGES_NAME)):
        _refuse_mismatch(path, "folder")
    databases = [f"{name}{more}" for name in (JOURNAL_NAME, LOCK_NAME) for more in _DATABASE]
    for path in (folder / METADATA_NAME, folder / ERRORS_NAME, folder / INVALID_NAME, *map(inner.joinpath, databases)):
        _refuse_mismatch(path, "file")


def _links_in(images: Path) -> list[Path]:
    # A folder that cannot be read is refused when the first file is written to it.
    with suppress(OSError), os.scandir(images) as entries:
        return [images / entry.name for entry in entries if entry.is_symlink()]
    return []


def _refuse_mismatch(path: Path, kind: Literal["folder", "file"]) -> None:
    with suppress(OSError):
        if found := mismatch(path, kind):
            raise ConfigurationError(f"{printable(str(path), 4096)} is {found}: move it away and run again")


@contextmanager
def opened(path: Path, flags: int = 0) -> Iterator[BinaryIO]:
    """Open a file to read and write it, never through a link, and close it at the end.

    Raises:
        StoreError: It is a symbolic link, or not a plain file.
        OSError: It cannot be opened or written.
    """
    # Before it is opened: opening a FIFO would wait for ever.
    with suppress(FileNotFoundError):
        if found := mismatch(path, "file"):
            raise StoreError(f"{printable(str(path))} is {found}, and is not written to: remove it", path=str(path))
    with os.fdopen(os.open(path, _FLAGS | flags, 0o666), "r+b", buffering=_BUFFER_BYTES) as file:
        yield file


@contextmanager
def translated(path: Path) -> Iterator[None]:
    """Turn the system's errors into a `StoreError` that names the file."""
    try:
        yield
    except OSError as error:
        raise StoreError(
            f"{printable(str(path))} cannot be written: {error.strerror or error}", path=str(path)
        ) from error
