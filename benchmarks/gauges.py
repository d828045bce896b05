"""What one process can say of itself: CPU time, resident memory, and how late its event loop runs.

Linux tells all of it through /proc; elsewhere memory falls back to the peak that `getrusage` keeps since the
process began. Nothing here knows what is being measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
import sys
import time
from array import array
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Lag", "cpu_seconds", "heartbeat", "peak_rss", "reset_peak", "rss"]

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


@attrs.frozen
class Lag:
    """How late a task woke that asked to sleep 5 ms; every figure in seconds."""

    samples: array[float] = attrs.field(factory=lambda: array("d"))

    def quantile(self, q: float) -> float:
        """Give the sample below which the share `q` of all samples lies; 0.0 without samples."""
        ranked = sorted(self.samples)
        return ranked[min(len(ranked) - 1, int(q * len(ranked)))] if ranked else 0.0


@contextlib.asynccontextmanager
async def heartbeat() -> AsyncIterator[Lag]:
    """Sample the running loop's lag for as long as the block runs."""
    lag = Lag()
    task = asyncio.create_task(_beat(lag.samples))
    try:
        yield lag
    finally:
        task.cancel()


async def _beat(samples: array[float]) -> None:
    while True:
        asked = time.perf_counter()
        await asyncio.sleep(BEAT)
        samples.append(time.perf_counter() - asked - BEAT)
