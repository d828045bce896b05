"""What one process can say of itself: CPU time, resident memory, open descriptors, how late its event loop runs.

Linux tells all of it through /proc; elsewhere memory falls back to the peak that `getrusage` keeps since the
process began. Nothing here knows what is being measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import sys
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Beats", "cpu_seconds", "descriptors", "heartbeat", "peak_rss", "reset_peak", "rss"]

BEAT = 0.005


def cpu_seconds() -> float:
    """User and system time of this process, all threads, no children."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def rss() -> int:
    """Bytes resident now."""
    return _status("VmRSS")


def peak_rss() -> int:
    """Most bytes resident since `reset_peak`."""
    return _status("VmHWM")


def reset_peak() -> bool:
    """Forget the peak of the imports; False where the system does not let us."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


def _status(field: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def descriptors() -> int:
    """Count the open descriptors of this process; 0 where the system does not tell."""
    try:
        # Since Linux 6.2 the folder's size is their number, which costs a thousandth of listing a thousand of them.
        return os.stat("/proc/self/fd").st_size or len(os.listdir("/proc/self/fd"))  # noqa: PTH116, PTH208 - no Path here: the beat must cost nothing
    except OSError:
        return 0


@attrs.define
class Beats:
    """What a task saw that asked to sleep 5 ms again and again.

    Attributes:
        late: By how many seconds it woke late, each time.
        descriptors: Most that were open when it woke.
    """

    late: array[float] = attrs.field(factory=lambda: array("d"))
    descriptors: int = 0

    def quantile(self, q: float) -> float:
        """Return the quantile `q` of the samples in `late`; 0.0 without samples."""
        ranked = sorted(self.late)
        return ranked[min(len(ranked) - 1, int(q * len(ranked)))] if ranked else 0.0


@contextlib.asynccontextmanager
async def heartbeat() -> AsyncIterator[Beats]:
    """Sample the running loop for as long as the block runs."""
    beats = Beats()
    task = asyncio.create_task(_beat(beats))
    try:
        yield beats
    finally:
        task.cancel()


async def _beat(beats: Beats) -> None:
    while True:
        asked = time.perf_counter()
        await asyncio.sleep(BEAT)
        beats.late.append(time.perf_counter() - asked - BEAT)
        beats.descriptors = max(beats.descriptors, descriptors())
