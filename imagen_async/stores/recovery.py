"""Finds what an earlier run left in a folder: complete files to adopt, temporary files to remove.

The rule: a file is adopted only if all of it was read and is the image that its name promises, and a file is removed
only if its name shows that a store made it.
"""
# Paths are plain strings in this room, as the calls of `os` want them; a Path costs more than many of those.
# ruff: noqa: PTH108, PTH120

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat

import attrs

from imagen_async.exceptions import ProtocolError
from imagen_async.stores.folders import store_error, sync_folder
from imagen_async.stores.store import Kept
from imagen_async.wire.image import Facts, Inspector

__all__ = ["Found", "adopt", "sweep", "temporary_name"]

_TEMPORARY = re.compile(r"imagen-[0-9a-f]{12}-[0-9]+\.partial")
# Without O_NONBLOCK, opening a pipe of that name would block the thread forever. Windows has only the last flag.
_READING = os.O_RDONLY | sum(getattr(os, flag, 0) for flag in ("O_NONBLOCK", "O_NOFOLLOW", "O_BINARY"))
_READ_SIZE = 512 * 1024


@attrs.frozen
class Found:
    """A complete, verified file that an earlier run committed.

    Attributes:
        kept: Where it is.
        facts: Its format and dimensions.
        sha256: Hex digest of its bytes.
    """

    kept: Kept
    facts: Facts
    sha256: str


def adopt(path: str, kind: str, *, durable: bool, max_pixels: int) -> Found | None:
    """Verify the file at `path`, in bounded memory.

    Args:
        path: Where an image may be.
        kind: The format that it must have.
        durable: Make it survive a loss of power.
        max_pixels: Most pixels that it may have.

    Returns:
        None if it does not exist, is not a regular file, is incomplete, or has another format.

    Raises:
        StoreError: It cannot be read or synced.
    """
    try:
        file = os.open(path, _READING)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:  # A symbolic link: not made by a store.
            return None
        raise store_error("read", path, error) from error
    try:
        found = _read_whole(file, path, kind, max_pixels)
        if found and durable:
            _make_durable(file, path)
    except OSError as error:
        raise store_error("read", path, error) from error
    finally:
        os.close(file)
    return found


def _read_whole(file: int, path: str, kind: str, max_pixels: int) -> Found | None:
    if not stat.S_ISREG(os.fstat(file).st_mode):
        return None
    inspector, digest = Inspector(max_pixels=max_pixels), hashlib.sha256()
    try:
        while span := os.read(file, _READ_SIZE):
            inspector.feed(span)
            digest.update(span)
        facts = inspector.finish()
    except ProtocolError:
        return None
    return Found(Kept(path=path), facts, digest.hexdigest()) if facts.format == kind else None


def _make_durable(file: int, path: str) -> None:
    # The run that wrote it may have died before its sync, or have run without fsync.
    os.fsync(file)
    shard_folder = os.path.dirname(path)
    sync_folder(shard_folder)
    sync_folder(os.path.dirname(shard_folder) or os.curdir)


def temporary_name(token: str, number: int) -> str:
    """Return a name for a temporary file that `sweep` recognizes; `token` is twelve hex digits."""
    return f"imagen-{token}-{number}.partial"


def sweep(folder: str, *, spare: str) -> int:
    """Remove leftover temporary files, except those whose token is `spare`.

    Returns:
        The number of files removed.

    Raises:
        OSError: The folder does not exist or cannot be read, or a file cannot be removed.
    """
    with os.scandir(folder) as entries:
        leftovers = [entry.path for entry in entries if _is_leftover(entry, spare)]
    for path in leftovers:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    return len(leftovers)


def _is_leftover(entry: os.DirEntry[str], spare: str) -> bool:
    known = _TEMPORARY.fullmatch(entry.name) is not None
    return known and f"-{spare}-" not in entry.name and entry.is_file(follow_symlinks=False)
