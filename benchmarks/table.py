"""Medians of the runs as a table, plain and Markdown, each figure beside its ratio to openai-python's; pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import median

import attrs

from benchmarks.contender import Measured

__all__ = ["as_markdown", "as_text", "rows", "verdict"]

YARDSTICK = "openai-python"
OURS = "ours"


@attrs.frozen
class Column:
    """One figure: its heading, how a run gives it, how many decimals it deserves, whether it takes a ratio."""

    heading: str
    of: Callable[[Measured], float]
    decimals: int = 1
    ratio: bool = True


COLUMNS = (
    Column("images/s", lambda run: run.images / run.seconds),
    Column("CPU ms/image", lambda run: 1e3 * run.cpu_seconds / run.images, 2),
    Column("peak memory MB", lambda run: (run.peak_rss - run.rss_before) / 1e6, 0),
    Column("loop lag p50 ms", lambda run: 1e3 * run.lag_p50, 2, ratio=False),
    Column("p99 ms", lambda run: 1e3 * run.lag_p99),
    Column("max ms", lambda run: 1e3 * run.lag_max, ratio=False),
)


def _figure(column: Column, runs: Sequence[Measured]) -> float:
    return median(column.of(run) for run in runs)


def rows(runs: dict[str, list[Measured]], absent: dict[str, str]) -> list[list[str]]:
    """Lay out the table, heading first; a contender without figures says why in the second cell."""
    yardstick = runs.get(YARDSTICK) if YARDSTICK not in absent else None
    table = [["contender", *(column.heading for column in COLUMNS)]]
    for name, own in runs.items():
        if name in absent or not own:
            table.append([name, absent.get(name, "no run"), *("" for _ in COLUMNS[1:])])
        else:
            table.append([name, *(_cell(column, own, yardstick) for column in COLUMNS)])
    return table


def _cell(column: Column, own: Sequence[Measured], yardstick: Sequence[Measured] | None) -> str:
    figure = _figure(column, own)
    text = f"{figure:,.{column.decimals}f}"
    if not column.ratio or not yardstick or not (beside := _figure(column, yardstick)):
        return text
    return f"{text} ({figure / beside:.2f}×)"


def verdict(runs: dict[str, list[Measured]], absent: dict[str, str]) -> str:
    """Say ours ÷ openai-python in one line; empty when either is missing."""
    if any(name in absent or not runs.get(name) for name in (OURS, YARDSTICK)):
        return ""
    parts = []
    for column in COLUMNS:
        beside = _figure(column, runs[YARDSTICK])
        if column.ratio and beside:
            parts.append(f"{column.heading} {_figure(column, runs[OURS]) / beside:.2f}×")
    return f"{OURS} ÷ {YARDSTICK}: " + ", ".join(parts)


def as_text(table: list[list[str]]) -> str:
    """Align the cells for a terminal; a reason instead of figures runs on freely."""
    widths = [max(len(row[i]) for row in table if row[-1]) for i in range(len(table[0]))]
    widths[0] = max(len(row[0]) for row in table)
    lines = []
    for name, *cells in table:
        words = [cell.rjust(width) for cell, width in zip(cells, widths[1:], strict=True)] if cells[-1] else cells[:1]
        lines.append("  ".join([name.ljust(widths[0]), *words]))
    return "\n".join(lines)


def as_markdown(table: list[list[str]]) -> str:
    """Write the same as a Markdown table, figures to the right."""
    heading, *body = ["| " + " | ".join(cell.replace("|", "/") for cell in row) + " |" for row in table]
    rule = "| --- |" + " ---: |" * (len(table[0]) - 1)
    return "\n".join([heading, rule, *body])
