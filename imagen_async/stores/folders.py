"""Makes, checks and syncs folders, and puts a failing disk's error into words.

The rule: nothing is written through a symbolic link, neither the root of a store nor anything below it. The folders
above the root are the user's choice.
"""
# Paths are plain strings in this room, as the calls of `os` want them; a Path costs more than many of those.
# ruff: noqa: PTH102, PTH103, PTH112, PTH114, PTH120

from __future__ import annotations

import errno
import os
import stat
from pathlib import PurePath
from typing import Literal

from imagen_async.exceptions import StoreError, printable

__all__ = ["link_words", "make_below", "make_root", "mismatch", "refuse_unless_folder", "store_error", "sync_folder"]

_LONGEST_PATH = 4096

_ADVICE = {
    errno.ENOSPC: "make room and run again",
    errno.EDQUOT: "make room and run again",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "choose a writable folder",
    errno.EMFILE: "raise the limit on open files or lower the concurrency",
    errno.EXDEV: "choose a temporary folder on the file system of the images",
    errno.ENAMETOOLONG: "choose a shorter path for the folder",
}


def store_error(doing: str, path: str, error: OSError) -> StoreError:
    """Return the error for a system call that failed: what, where, why, and what to do."""
    code = errno.errorcode.get(error.errno or 0, "no error number")
    advice = _ADVICE.get(error.errno or 0)
    words = f"cannot {doing} {printable(path, _LONGEST_PATH)}: {error.strerror or error} ({code})"
    return StoreError(f"{words}; {advice}" if advice else words, path=path)


def make_root(path: str, *, durable: bool) -> None:
    """Make a folder and its missing parents.

    Args:
        path: The folder.
        durable: Make new folders survive a loss of power.

    Raises:
        StoreError: The folder is a symbolic link.
        OSError: A folder cannot be made.
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
    """Return why nothing is written to `path` and what to name instead if it is a symbolic link, else None."""
    # PurePath drops a slash or a dot at the end, with which the system would look at the link's target.
    if not os.path.islink(PurePath(path)):
        return None
    name, real = printable(os.fspath(path), _LONGEST_PATH), printable(os.path.realpath(path), _LONGEST_PATH)
    return f"{name} is a symbolic link, and nothing is written through one: name the folder itself, {real}"


def make_below(path: str, *, durable: bool) -> None:
    """Make a folder inside the root, or accept an existing one that is not a symbolic link.

    Args:
        path: The folder.
        durable: Make it survive a loss of power.

    Raises:
        StoreError: Something else has that name.
        OSError: The folder cannot be made.
    """
    try:
        os.mkdir(path)
    except FileExistsError:
        refuse_unless_folder(path)
    if durable:
        # An existing folder, too: the run that made it may have died before its sync.
        sync_folder(os.path.dirname(path) or os.curdir)


def refuse_unless_folder(path: str) -> None:
    """Check that `path` is a folder, not a link to one.

    Raises:
        StoreError: It is a symbolic link, or not a folder.
        OSError: It does not exist, or cannot be examined.
    """
    if found := mismatch(path, "folder"):
        words = f"{printable(path, _LONGEST_PATH)} is {found}, images are kept in real folders only"
        raise StoreError(f"{words}; move it away and run again", path=path)


def mismatch(path: str | os.PathLike[str], kind: Literal["folder", "file"]) -> str | None:
    """Return what `path` is instead of a real folder or plain file, or None if it is one.

    Raises:
        OSError: It does not exist, or cannot be examined.
    """
    mode = os.lstat(path).st_mode
    if stat.S_ISLNK(mode):
        return "a symbolic link"
    if kind == "folder":
        return None if stat.S_ISDIR(mode) else "not a folder"
    return None if stat.S_ISREG(mode) else "not a plain file"


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the names in a folder survive a loss of power; does nothing on Windows, which cannot sync a folder.

    Raises:
        OSError: The folder cannot be opened or synced.
    """
    if not hasattr(os, "O_DIRECTORY"):
        return
    folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
