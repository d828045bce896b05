"""Medians of the runs, beside what ours is to reach; pure. `benchmarks.table` writes them as text and as Markdown."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import attrs

from benchmarks.pacing.rounds import Results, Run
from benchmarks.pacing.rows import Row, Target

__all__ = ["rows", "verdict"]

NONE = "–"


@attrs.frozen
class Column:
    """One figure: its heading, how a run of a row gives it, how it is written, where it says something at all."""

    heading: str
    of: Callable[[Run, Row], float]
    written: Callable[[float], str]
    target: Callable[[Target], str] = lambda _: NONE
    meets: Callable[[float, Target], bool] = lambda _, __: True
    applies: Callable[[Row], bool] = lambda _: True


def _percent(part: float) -> str:
    return f"{100 * part:.1f} %"


COLUMNS = (
    Column(
        "jobs failed",
        lambda run, _: run.played.failed,
        lambda count: f"{count:.0f}",
        target=lambda _: "0",
        meets=lambda count, _: count == 0,
    ),
    Column(
        "wasted on 429",
        lambda run, _: run.wasted,
        _percent,
        target=lambda target: f"≤ {100 * target.wasted:.0f} %",
        meets=lambda part, target: part <= target.wasted,
    ),
    Column(
        "ideal time / time",
        lambda run, row: run.share(row),
        lambda share: f"{share:.2f}",
        target=lambda target: f"≥ {target.share:.2f}",
        meets=lambda share, target: share >= target.share,
    ),
    Column("seconds", lambda run, _: run.played.seconds, lambda seconds: f"{seconds:.1f}"),
    Column("most at once", lambda run, _: run.counted.most, lambda count: f"{count:.0f}"),
    Column("after s", lambda run, _: run.counted.most_after, lambda seconds: f"{seconds:.1f}"),
    Column(
        "too early",
        lambda run, _: run.counted.early,
        lambda count: f"{count:.0f}",
        target=lambda _: "0",
        meets=lambda count, _: count == 0,
        applies=lambda row: row.retry_after is not None,
    ),
    Column(
        "second batch behind",
        lambda run, _: run.uneven,
        _percent,
        target=lambda target: NONE if target.uneven is None else f"≤ {100 * target.uneven:.0f} %",
        meets=lambda part, target: target.uneven is None or part <= target.uneven,
        applies=lambda row: row.batches > 1,
    ),
)


def rows(played: Sequence[Row], results: Results) -> list[list[str]]:
    """Lay out the table, heading first: for each row what is to be reached, then each contender's medians."""
    table = [["hidden limit", "", *(column.heading for column in COLUMNS)]]
    for row in played:
        table.append([row.title, "to reach", *(_wanted(column, row) for column in COLUMNS)])
        table.extend(["", name, *_figures(row, name, results)] for name in row.contenders)
    return table


def _wanted(column: Column, row: Row) -> str:
    return NONE if row.target is None or not column.applies(row) else column.target(row.target)


def _figures(row: Row, name: str, results: Results) -> list[str]:
    if (reason := results.absent.get((row.name, name))) is not None:
        return [reason, *(NONE for _ in COLUMNS[1:])]
    return [_cell(column, row, results.runs[row.name, name]) for column in COLUMNS]


def _cell(column: Column, row: Row, runs: Sequence[Run]) -> str:
    """Write the median, and least and most where they are not written alike."""
    if not column.applies(row):
        return NONE
    figures = [column.of(run, row) for run in runs]
    least, most = column.written(min(figures)), column.written(max(figures))
    middle = column.written(median(figures))
    return middle if least == most else f"{middle} ({least}–{most})"


def verdict(played: Sequence[Row], results: Results) -> str:
    """Say in a line what ours does not reach, by the medians; empty where there was nothing to reach."""
    wanted = [(row, row.target) for row in played if row.target is not None]
    if not wanted:
        return ""
    misses = [
        f"{row.name}, {name}: {', '.join(missed)}"
        for row, target in wanted
        for name in row.contenders
        if name.startswith("ours") and (missed := _missed(row, target, name, results))
    ]
    return f"ours misses: {'; '.join(misses)}" if misses else "ours reaches all of it"


def _missed(row: Row, target: Target, name: str, results: Results) -> list[str]:
    if (row.name, name) in results.absent:
        return ["no figures"]
    runs = results.runs[row.name, name]
    return [
        column.heading
        for column in COLUMNS
        if column.applies(row) and not column.meets(median(column.of(run, row) for run in runs), target)
    ]
