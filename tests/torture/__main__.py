"""The command line of the torture runs."""

from __future__ import annotations

import argparse
import os
import queue
import random
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from tests.torture import disks, kill_nine
from tests.torture.crash_points import HARMS, SCENES, Result, Scene, Trial, found_points, perform, scenes
from tests.torture.report import holds, report
from tests.torture.runs import Forge

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.torture.tracing import Point

CLEAN_RUNS = 3
"""The order of threads varies, so a run can make calls that another run does not make."""


def main() -> int:
    """Run the command line, and return its exit status."""
    parser = _parser()
    given = parser.parse_args()
    if given.command != "all":
        return int(given.run(given))
    whole = [parser.parse_args([command]) for command in ("disks", "crash-points", "kill-nine")]
    return max([int(each.run(each)) for each in whole])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.torture")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("all", help="all of them, whole")
    crashes = commands.add_parser("crash-points", help="a small batch, harmed at each call that changes a file")
    crashes.add_argument("--quick", action="store_true", help="one point for each kind of call and file")
    crashes.add_argument("--scenes", default=",".join(SCENES), help=f"of {', '.join(SCENES)}")
    crashes.add_argument("--calls", default="", help="these calls only: fsync,link")
    crashes.add_argument("--harms", default=",".join(HARMS), help=f"of {', '.join(HARMS)}")
    crashes.add_argument("--only", action="append", type=Trial.parsed, help="this point only; may be repeated")
    crashes.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    crashes.add_argument("--seed", type=int, default=0, help="which points a quick run takes")
    crashes.set_defaults(run=_crash_points)
    kills = commands.add_parser("kill-nine", help="a large batch with faults, killed again and again")
    kills.add_argument("--kills", type=int, default=200)
    kills.add_argument("--jobs", type=int, default=2_000)
    kills.add_argument("--seed", type=int, default=0)
    kills.set_defaults(run=lambda given: kill_nine.run(kills=given.kills, jobs=given.jobs, seed=given.seed))
    played = commands.add_parser("disks", help="disks that are full, small or slow, and limits of the process")
    played.add_argument("names", nargs="*", help=f"of {', '.join(disks.SCENES)}; all of them if none is named")
    played.set_defaults(run=lambda given: disks.run(given.names))
    return parser


def _crash_points(given: argparse.Namespace) -> int:
    if (why := _impossible()) is not None:
        sys.stderr.write(f"{why}\n")
        return 2
    began = time.monotonic()
    with ExitStack() as stack:
        made = [stack.enter_context(closing(Forge())) for _ in range(given.workers)]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="imagen-torture-")))
        prepared = scenes(folder, made[0])
        results = _performed(given.only or _chosen(given, prepared, made[0]), prepared, made)
    sys.stdout.write(f"{report(results)} in {time.monotonic() - began:.0f} s\n")
    return int(not holds(results))


def _impossible() -> str | None:
    if shutil.which("strace") is None:
        return "strace is not installed (on Debian and Ubuntu: apt-get install strace)"
    command = ["strace", "-qq", "-e", "trace=none", "true"]
    tried = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - the system's own
    return f"strace may not trace here: {tried.stderr.strip()}" if tried.returncode else None


def _chosen(given: argparse.Namespace, prepared: Mapping[str, Scene], forge: Forge) -> list[Trial]:
    calls, chosen = set(filter(None, given.calls.split(","))), []
    for name in given.scenes.split(","):
        found = {point for _ in range(CLEAN_RUNS) for point in found_points(prepared[name], forge)}
        wanted = sorted(point for point in found if not calls or point.call in calls)
        sys.stdout.write(f"{name}: {len(wanted)} points\n")
        if given.quick:
            chosen += _sample(name, wanted, random.Random(given.seed))
        else:
            chosen += [Trial(name, harm, point) for point in wanted for harm in given.harms.split(",")]
    return chosen


def _sample(scene: str, points: Sequence[Point], chance: random.Random) -> list[Trial]:
    """Choose one point of each kind; half of them are kills."""
    kinds: dict[str, list[Point]] = {}
    for point in points:
        kinds.setdefault(point.kind, []).append(point)
    chosen = [chance.choice(alike) for alike in kinds.values()]
    chance.shuffle(chosen)
    harms = cycle(("kill", "EIO", "kill", "ENOSPC", "kill", "full"))
    return [Trial(scene, harm, point) for point, harm in zip(chosen, harms, strict=False)]


def _performed(trials: Sequence[Trial], prepared: Mapping[str, Scene], made: Sequence[Forge]) -> list[Result]:
    forges = queue.SimpleQueue[Forge]()
    for forge in made:
        forges.put(forge)

    def performed(trial: Trial) -> Result:
        forge = forges.get()
        try:
            return perform(trial, prepared, forge)
        finally:
            forges.put(forge)

    results = []
    with ThreadPoolExecutor(len(made)) as pool:
        for result in pool.map(performed, trials):
            results.append(result)
            if result.breach is not None:
                sys.stdout.write(f"BREACH {result.trial}\n")
            elif len(results) % 100 == 0:
                sys.stdout.write(f"{len(results)} of {len(trials)}\n")
            sys.stdout.flush()
    return results


sys.exit(main())
