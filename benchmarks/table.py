"""Medians of the runs as a table, plain and Markdown, each figure beside its ratio to a yardstick's; pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median

import attrs

from benchmarks.contender import Measured

__all__ = [
    "CPU",
    "DESCRIPTORS",
    "LAG_MAX",
    "LAG_P99",
    "MEMORY",
    "RATE",
    "REQUESTS",
    "USUAL",
    "YARDSTICK",
    "Column",
    "as_markdown",
    "as_text",
    "figure",
    "rows",
]

YARDSTICK = "openai-python"


@attrs.frozen
class Column:
    """One figure: its heading, how a run gives it, how many decimals it deserves, whether it takes a ratio.

    Attributes:
        before: What stands before the heading where the column has no neighbours.
    """

    heading: str
    of: Callable[[Measured], float]
    decimals: int = 1
    ratio: bool = True
    before: str = ""

    @property
    def name(self) -> str:
        """The heading, as it is said alone."""
        return self.before + self.heading


RATE = Column("images/s", lambda run: run.images / run.seconds)
REQUESTS = attrs.evolve(RATE, heading="requests/s", decimals=0)
"""With one image a request."""
CPU = Column("CPU ms/image", lambda run: 1e3 * run.cpu_seconds / run.images, 2)
MEMORY = Column("peak memory MB", lambda run: (run.peak_rss - run.rss_before) / 1e6, 0)
LAG_P50 = Column("loop lag p50 ms", lambda run: _lag(run, run.lag_p50), 2, ratio=False)
LAG_P99 = Column("p99 ms", lambda run: _lag(run, run.lag_p99), before="loop lag ")
LAG_MAX = Column("max ms", lambda run: _lag(run, run.lag_max), ratio=False, before="loop lag ")
DESCRIPTORS = Column("descriptors", lambda run: run.descriptors, 0, ratio=False)
USUAL = (RATE, CPU, MEMORY, LAG_P50, LAG_P99, LAG_MAX)


def _lag(run: Measured, seconds: float) -> float:
    """Return milliseconds; NaN for a run that never yielded to its loop."""
    return 1e3 * seconds if run.beats else math.nan


def figure(column: Column, runs: Sequence[Measured]) -> float:
    """Return the median over the runs."""
    return median(column.of(run) for run in runs)


def rows(runs: dict[str, list[Measured]], absent: dict[str, str], columns: Sequence[Column] = USUAL) -> list[list[str]]:
    """Lay out the table, heading first; a contender without figures says why in the second cell."""
    yardstick = runs.get(YARDSTICK) if YARDSTICK not in absent else None
    table = [["contender", *(column.heading for column in columns)]]
    for name, own in runs.items():
        if name in absent or not own:
            table.append([name, absent.get(name, "no run"), *("" for _ in columns[1:])])
        else:
            table.append([name, *(_cell(column, own, yardstick) for column in columns)])
    return table


def _cell(column: Column, own: Sequence[Measured], yardstick: Sequence[Measured] | None) -> str:
    found = figure(column, own)
    if math.isnan(found):
        return "–"
    text = f"{found:,.{column.decimals}f}"
    if not column.ratio or not yardstick or not (beside := figure(column, yardstick)):
        return text
    return f"{text} ({found / beside:.2f}×)"


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
