"""Every row with every contender, round after round; each run has a gateway and a process of its own, all bounded."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from benchmarks.pacing.contender import Played
from benchmarks.pacing.rows import Row
from benchmarks.pacing.server import Counted
from benchmarks.processes import RunFailedError, run, served

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Pair", "Plan", "Results", "Run", "play"]

Pair = tuple[str, str]
"""Names of a row and of a contender."""


@attrs.frozen(kw_only=True)
class Plan:
    """What to run.

    Attributes:
        rows: In the order of their runs; the quick rows if `quick`.
        rounds: Runs of each row and contender.
        quick: Whether the gateway is told to take its row's quick form.
        limit: Seconds that one run may take.
    """

    rows: tuple[Row, ...]
    rounds: int = 1
    quick: bool = False
    limit: float = 150.0


@attrs.frozen
class Run:
    """One run, as the contender and as the gateway counted it."""

    played: Played
    counted: Counted

    @property
    def wasted(self) -> float:
        """Part of all requests that ended in 429."""
        return self.counted.refused / (self.counted.refused + self.counted.accepted)

    @property
    def uneven(self) -> float:
        """Lag of the slowest batch behind the first one when that ended, as a part of the first one's jobs."""
        return 1.0 - min(self.played.shared) / max(self.played.shared)

    def share(self, row: Row) -> float:
        """Return ideal time ÷ time for the jobs that were done: failed ones do not make a run quick."""
        return row.ideal(self.played.done) / self.played.seconds


@attrs.frozen
class Results:
    """Every run; a pair with a reason in `absent` has no complete set of runs."""

    runs: dict[Pair, list[Run]] = attrs.field(factory=dict)
    absent: dict[Pair, str] = attrs.field(factory=dict)


def play(plan: Plan, *, tell: Callable[[str], None]) -> Results:
    """Run all rounds, and call `tell` with a line for each finished run."""
    results = Results(runs={(row.name, name): [] for row in plan.rows for name in row.contenders})
    for number in range(1, plan.rounds + 1):
        for row in plan.rows:
            for name in row.contenders:
                if (row.name, name) not in results.absent:
                    said = _played(plan, row, name, number, results)
                    tell(f"round {number}: {row.name}: {name}: {said}")
    return results


def _played(plan: Plan, row: Row, name: str, number: int, results: Results) -> str:
    """Run once, keep the result, and return it as a line of text."""
    try:
        once = _run_once(plan, row, name, seed=number)
    except RunFailedError as error:
        results.absent[row.name, name] = str(error)
        return str(error)
    results.runs[row.name, name].append(once)
    return f"{once.played.failed} failed, {once.wasted:.1%} wasted, {once.played.seconds:.1f} s, {once.share(row):.2f}"


def _run_once(plan: Plan, row: Row, name: str, *, seed: int) -> Run:
    words = [row.name, f"--seed={seed}", *(["--quick"] if plan.quick else [])]
    with (
        tempfile.TemporaryDirectory(prefix="imagen-bench-") as folder,
        served("benchmarks.pacing.server", *words) as server,
    ):
        played = _contender(plan, row, name, server.url, Path(folder))
        return Run(played, Counted(**server.last_words()))


def _contender(plan: Plan, row: Row, name: str, url: str, out: Path) -> Played:
    options = {"url": url, "jobs": row.jobs, "batches": row.batches, "limit": plan.limit + 10, "out": out}
    words = [f"--{option}={value}" for option, value in options.items()]
    said = run("benchmarks.pacing.contender", name, *words, limit=plan.limit)
    if "missing" in said:
        raise RunFailedError(f"not installed ({said['missing']})")
    played = Played(**said)
    if played.done + played.failed != row.jobs:
        raise RunFailedError(f"{played.done} jobs done and {played.failed} failed, of {row.jobs}")
    return played
