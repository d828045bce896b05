"""Reads a run's changes to files from strace's logs, and has strace stop a run at one of them.

strace counts the calls of each thread apart, and with ``-P`` those alone that touch a path. So a point in a run is a
call, a path and a number: "the third fdatasync of the journal's log". Of two threads that make the same call on the
same path, the first to come there is stopped. Pure: nothing here starts a process or reads a file.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["MUTATING", "Point", "all_changes", "injection", "points"]

MUTATING = (
    "open", "openat", "creat", "mkdir", "mkdirat", "rmdir", "write", "pwrite64", "writev", "pwritev", "fsync",
    "fdatasync", "link", "linkat", "rename", "renameat", "renameat2", "unlink", "unlinkat", "truncate", "ftruncate",
    "fallocate", "fchmod",
)  # fmt: skip
"""Calls that can change a file or a folder; not every machine has all."""

_STRACE = ("strace", "-qq", "-y", "-s", "0")
_CALL = re.compile(r"(?P<name>[a-z0-9_]+)\((?P<rest>.*)")
_PATH = re.compile(r'<(/[^>]*)>|"(/[^"]*)"')
_OPENING = frozenset({"open", "openat", "creat"})
_HEX = re.compile(r"[0-9a-f]{12}|[0-9a-f]{2}(?=/)|(?<=/)[0-9a-f]{2}$|[0-9]+")


@attrs.frozen(order=True)
class Point:
    """One call of a run.

    Attributes:
        call: Its name.
        path: The file or folder that it is about, from the output folder.
        number: Which of its thread's calls of that name on that path, from 1.

    Example:
        >>> Point.parsed("fsync:.imagen/tmp/imagen-000000000000-2.partial:1").kind
        'fsync .imagen/tmp/imagen-*-*.partial'
    """

    call: str
    path: str
    number: int

    def __str__(self) -> str:
        return f"{self.call}:{self.path}:{self.number}"

    @classmethod
    def parsed(cls, text: str) -> Point:
        """Read what `str` wrote."""
        call, path, number = text.split(":")
        return cls(call, path, int(number))

    @property
    def kind(self) -> str:
        """The call and the path, without the parts that differ between images."""
        return f"{self.call} {_HEX.sub('*', self.path)}"


def all_changes(process: int, log: str) -> list[str]:
    """Return the command that has each thread's changes to files written into ``<log>.<thread>``."""
    trace = ",".join(f"?{call}" for call in MUTATING)
    return [*_STRACE, "-ff", "-p", str(process), "-o", log, "-e", f"trace={trace}"]


def injection(process: int, log: str, point: Point, *, folder: str, what: str, on: bool) -> list[str]:
    """Return the command that has something done to a process at one point.

    Args:
        process: Its id.
        log: For the calls of that name on that path.
        point: Where.
        folder: The output folder, which the point's path starts from.
        what: What is done there, in strace's words, such as ``signal=SIGKILL`` or ``error=EIO``.
        on: Whether it is done from there on, each time.
    """
    inject = f"inject={point.call}:{what}:when={point.number}{'+' if on else ''}"
    path = str(PurePosixPath(folder) / point.path)
    return [*_STRACE, "-f", "-p", str(process), "-o", log, "-P", path, "-e", f"trace={point.call}", "-e", inject]


def points(logs: Iterable[Iterable[str]], folder: str) -> list[Point]:
    """List the points at which a run changes something below `folder`, or the folder itself.

    Args:
        logs: The lines of each thread's log.
        folder: An absolute path without links in it.

    Example:
        >>> points([['mkdir("/out/images", 0777) = 0', 'fsync(3</out>) = 0', 'fsync(1</elsewhere>) = 0']], "/out")
        [Point(call='fsync', path='.', number=1), Point(call='mkdir', path='images', number=1)]
    """
    return sorted({point for log in logs for point in _points_of_thread(log, folder)})


def _points_of_thread(log: Iterable[str], folder: str) -> Iterator[Point]:
    counted: Counter[tuple[str, str]] = Counter()
    for line in log:
        call = _CALL.match(line)
        paths = _paths_below(folder, line) if call else []
        if call is None or not paths:
            continue
        # strace takes a call for one on a path if any of its arguments is that path.
        counted.update((call["name"], path) for path in paths)
        if call["name"] not in _OPENING or "O_CREAT" in call["rest"] or "O_TRUNC" in call["rest"]:
            yield Point(call["name"], paths[0], counted[call["name"], paths[0]])


def _paths_below(folder: str, line: str) -> list[str]:
    """Return the different paths in a line, in their order, as seen from the folder."""
    found = [PurePosixPath(first or second) for first, second in _PATH.findall(line)]
    return list(dict.fromkeys(str(path.relative_to(folder)) for path in found if path.is_relative_to(folder)))
