"""How long it takes until one can begin: imports beside aiohttp's, and the command line's help, in fresh processes.

An import is timed inside of its process, so that the interpreter's own start does not count; help is timed from
outside, as a user waits for it. They alternate, after one run each that fills the disk's cache and writes bytecode.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from statistics import median
from typing import TYPE_CHECKING

import attrs

from benchmarks.processes import HOME, quiet_environment
from benchmarks.targets import Limit, at_most, judged

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OPTIONAL", "Started", "play", "rows", "verdict"]

ROUNDS = 11
OPTIONAL = ("cyclopts", "rich", "PIL", "pyarrow", "isal")
"""Modules of the extras."""
STATEMENTS = {
    "import aiohttp": "import aiohttp",
    "import imagen_async": "import imagen_async",
    "the client": "from imagen_async import ImagenClient, ImageRequest, LocalStore",
    "the client and Batch": "from imagen_async import Batch, ImagenClient, ImageRequest, LocalStore",
}
HELP = "imagen-async --help"
YARDSTICK = "import aiohttp"
LIMITS: dict[str, Limit | None] = {"import imagen_async": at_most(1.15), "the client": None}
"""The package's names are imported when they are used, so the second line says what that costs."""
HELP_LIMIT = at_most(250)

_TIMED = """\
import sys, time
clock, cpu = time.perf_counter(), time.process_time()
{statement}
clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
import json
print(json.dumps({{"seconds": clock, "cpu_seconds": cpu, "optional": [m for m in {optional} if m in sys.modules]}}))
"""


@attrs.frozen(kw_only=True)
class Started:
    """One start.

    Attributes:
        seconds: Wall clock.
        cpu_seconds: CPU time of the import, or of the whole process.
        optional: Which modules of the extras were loaded.
    """

    seconds: float
    cpu_seconds: float
    optional: tuple[str, ...] = ()


def play(rounds: int | None, *, tell: Callable[[str], None]) -> dict[str, list[Started]]:
    """Start each so many times."""
    found: dict[str, list[Started]] = {name: [] for name in (*STATEMENTS, HELP)}
    for number in range((rounds or ROUNDS) + 1):
        for name, starts in found.items():
            started = _help() if name == HELP else _import(STATEMENTS[name])
            if number:
                starts.append(started)
        tell(f"round {number} of starting" if number else "warm")
    return found


def _import(statement: str) -> Started:
    said = json.loads(_python("-c", _TIMED.format(statement=statement, optional=OPTIONAL)).stdout)
    return Started(**{**said, "optional": tuple(said["optional"])})


def _help() -> Started:
    clock, cpu = time.perf_counter(), _children_cpu()
    _python("-m", "imagen_async", "--help")
    return Started(seconds=time.perf_counter() - clock, cpu_seconds=_children_cpu() - cpu)


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        cwd=HOME,
        env=quiet_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )


def rows(found: dict[str, list[Started]]) -> list[list[str]]:
    """Lay out the table, heading first."""
    table = [["start", "ms", "CPU ms", "÷ import aiohttp", "optional dependencies loaded"]]
    yardstick = _median(found[YARDSTICK])
    for name, starts in found.items():
        wall, cpu = _median(starts), median(start.cpu_seconds for start in starts)
        ratio = "–" if name == HELP else f"{wall / yardstick:.2f}"
        loaded = ", ".join(sorted({module for start in starts for module in start.optional})) or "–"
        table.append([name, f"{1e3 * wall:.0f}", f"{1e3 * cpu:.0f}", ratio, loaded])
    return table


def verdict(found: dict[str, list[Started]]) -> list[str]:
    """Write a line for each target."""
    yardstick = _median(found[YARDSTICK])
    lines = [judged(f"{name} ÷ {YARDSTICK}", _median(found[name]) / yardstick, limit) for name, limit in LIMITS.items()]
    return [*lines, judged(f"{HELP} ms", 1e3 * _median(found[HELP]), HELP_LIMIT, decimals=0)]


def _median(starts: list[Started]) -> float:
    return median(start.seconds for start in starts)
