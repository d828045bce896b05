"""Reports many trials: a table, what had no effect, and how to repeat what broke. Pure."""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.torture.crash_points import Result

__all__ = ["holds", "report"]

_OUTCOMES = ("killed", "went on", "exit 1", "exit 2", "exit 3", "not reached", "BREACH")


_REACHED = 0.8
"""Share of the points at which a run must have been harmed, for the verdict to mean anything."""


def report(results: Sequence[Result]) -> str:
    """Put results into words; the last line is the verdict."""
    breaches = [result for result in results if result.breach is not None]
    reached = _reached(results)
    verdict = "all hold" if holds(results) else f"{len(breaches)} breaches" if breaches else "that is too few"
    figures = f"{len(results)} points, {reached} reached: {verdict}"
    return "\n".join([*_table(results), "", *_silent(results), *_repeats(breaches), figures])


def holds(results: Sequence[Result]) -> bool:
    """Return whether no promise was broken, at enough points to conclude it."""
    unbroken = all(result.breach is None for result in results)
    return unbroken and _reached(results) > _REACHED * len(results)


def _reached(results: Sequence[Result]) -> int:
    return sum(result.outcome != "not reached" for result in results)


def _table(results: Sequence[Result]) -> Iterator[str]:
    counted = Counter((result.trial.harm, result.trial.point.call, result.outcome) for result in results)
    rows = sorted({(harm, call) for harm, call, _ in counted})
    yield _row("harm", "call", "points", *_OUTCOMES)
    for harm, call in rows:
        figures = [counted[harm, call, outcome] for outcome in _OUTCOMES]
        yield _row(harm, call, sum(figures), *(figure or "." for figure in figures))
    totals = [sum(counted[harm, call, outcome] for harm, call in rows) for outcome in _OUTCOMES]
    yield _row("all", "", sum(totals), *totals)


def _row(harm: str, call: str, *figures: object) -> str:
    return f"{harm:7} {call:10}" + "".join(f"{figure!s:>12}" for figure in figures)


def _silent(results: Sequence[Result]) -> Iterator[str]:
    """List which failing calls did not matter."""
    survived = Counter(result.trial.point.kind for result in results if result.outcome == "went on")
    if survived:
        yield "calls that failed and did not matter:"
        yield from (f"  {kind} ({count})" for kind, count in sorted(survived.items()))
        yield ""


def _repeats(breaches: Sequence[Result]) -> Iterator[str]:
    for result in breaches:
        yield f"BREACH at {result.trial}: {result.breach}"
        yield f"  repeat: python -m tests.torture crash-points --only {shlex.quote(str(result.trial))}"
        yield ""
