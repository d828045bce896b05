"""Counts what this process holds at a quiet moment, and what has grown."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import threading
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Held", "grown", "settled"]

SLACK = 0.05
"""The part by which anything may grow."""

CACHES = "SQLite KiB"
MOST_CACHED = 5 * 1024
"""KiB that SQLite may hold: it fills two page caches of 2 MiB each (the journal's, and that of its temporary tables) in
the course of some fifty thousand jobs, and that is all it ever takes."""

_LONGEST_SETTLING = 100
"""Tenths of a second."""


@attrs.frozen
class Held:
    """Counts at one moment.

    Attributes:
        counts: By name; memory is what is resident, without what SQLite holds, which has a bound of its own.
    """

    counts: dict[str, int]

    @classmethod
    def now(cls) -> Held:
        """Count, after all is collected that can be, and the allocator has given back what it keeps for later."""
        gc.collect()
        with suppress(OSError, AttributeError):  # only glibc has it
            ctypes.CDLL(None).malloc_trim(0)
        pages, cached = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]), _of_sqlite() // 1024
        return cls(
            {
                "memory KiB": pages * os.sysconf("SC_PAGE_SIZE") // 1024 - cached,
                CACHES: cached,
                "objects": len(gc.get_objects()),
                "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names are enough
                "tasks": len(asyncio.all_tasks()),
                "threads": threading.active_count(),
            }
        )


async def settled() -> Held:
    """Wait until the idle connections are gone, which is when the number of descriptors falls no more, and count."""
    steady, least = 0, Held.now().counts["descriptors"]
    for _ in range(_LONGEST_SETTLING):
        await asyncio.sleep(0.1)
        now = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names are enough
        steady, least = (steady + 1, least) if now >= least else (0, now)
        if steady == 30:
            break
    return Held.now()


def grown(first: Held, last: Held) -> Iterator[tuple[str, int, int]]:
    """Name what has grown by more than the slack, with both counts."""
    for name, before in first.counts.items():
        after = last.counts[name]
        if after > (MOST_CACHED if name == CACHES else before * (1 + SLACK)):
            yield name, before, after


def _of_sqlite() -> int:
    """Ask SQLite how many bytes it holds; nothing where its library does not let us ask."""
    with suppress(OSError, AttributeError, ImportError):
        import _sqlite3

        used = ctypes.CDLL(_sqlite3.__file__).sqlite3_memory_used
        used.restype = ctypes.c_int64
        return int(used())
    return 0
