"""Folders below a store's root: made, checked and made durable; and what a failing disk says, in words.

The rule: nothing is written through a symbolic link, be it the root or something below it. The folders above the root
are the user's own business. Nothing here knows of images.
"""
# Paths are plain strings in this room, as the calls of `os` want them; a Path costs more than many of those.
# ruff: noqa: PTH102, PTH103, PTH112, PTH114, PTH120

from __future__ import annotations

import errno
import os
import stat
from pathlib import PurePath

from imagen_async.exceptions import StoreError, printable

__all__ = ["link_words", "make_below", "make_root", "refuse_unless_folder", "store_error", "sync_folder"]

_LONGEST_PATH = 4096

_ADVICE = {
    errno.ENOSPC: "make room and run again",
    errno.EDQUOT: "make room and run again",
    errno.EACCES: "check who may write there",
    errno.EPERM: "check who may write there",
    errno.EROFS: "choose a folder that can be written to",
    errno.EMFILE: "raise the limit on open files or lower the concurrency",
    errno.EXDEV: "choose a temporary folder on the file system of the images",
    errno.ENAMETOOLONG: "choose a shorter path for the folder",
}


def store_error(doing: str, path: str, error: OSError) -> StoreError:
    """Put a failing call into words: what, where, why, and what to do."""
    code = errno.errorcode.get(error.errno or 0, "no error number")
    advice = _ADVICE.get(error.errno or 0)
    words = f"cannot {doing} {printable(path, _LONGEST_PATH)}: {error.strerror or error} ({code})"
    return StoreError(f"{words}; {advice}" if advice else words, path=path)


def make_root(path: str, *, durable: bool) -> None:
    """Make a folder and its parents where they are missing.

    Raises:
        StoreError: It is a symbolic link.
        OSError: One of them cannot be made.
    """
    if words := link_words(path):
        raise StoreError(words, path=path)
    missing: list[str] = []
    here = path
    while here and not os.path.isdir(here):
        missing.append(here)
        here = os.path.dirname(here)
    os.makedirs(path, exist_ok=True)
    if durable:
        for made in missing:
            sync_folder(os.path.dirname(made) or os.curdir)


def link_words(path: str | os.PathLike[str]) -> str | None:
    """Say why nothing is written to `path` if it is a symbolic link, and what to name instead; else None."""
    # With a slash or a dot behind it, a link would be looked through.
    if not os.path.islink(PurePath(path)):
        return None
    name, real = printable(os.fspath(path), _LONGEST_PATH), printable(os.path.realpath(path), _LONGEST_PATH)
    return f"{name} is a symbolic link, and nothing is written through one: name the folder itself, {real}"


def make_below(path: str, *, durable: bool) -> None:
    """Make a folder inside the root, or accept one that is there and is no symbolic link.

    Raises:
        StoreError: Something else is there.
        OSError: It cannot be made.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        refuse_unless_folder(path)
    if durable:
        # Also where it was there before: the run that made it may have died before it got here.
        sync_folder(os.path.dirname(path) or os.curdir)


def refuse_unless_folder(path: str) -> None:
    """Check that `path` is a folder itself, not a link to one.

    Raises:
        StoreError: It is a symbolic link, or no folder.
        OSError: It is not there, or cannot be looked at.
    """
    mode = os.lstat(path).st_mode
    if stat.S_ISDIR(mode):
        return
    found = "a symbolic link" if stat.S_ISLNK(mode) else "not a folder"
    words = f"{printable(path, _LONGEST_PATH)} is {found}, images are kept in real folders only"
    raise StoreError(f"{words}; move it away and run again", path=path)


def sync_folder(path: str) -> None:
    """Make what a folder lists survive a loss of power.

    Raises:
        OSError: It cannot be opened or synced.
    """
    if os.name == "nt":  # pragma: no cover - Windows gives no handle to sync a folder by
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
