"""Compares measurements with their targets, one line for each target; pure.

A line has the figure, its value, and its target in brackets. A target without a limit is only shown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from benchmarks.table import Column, figure

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.contender import Measured

__all__ = ["OURS", "Limit", "Target", "at_least", "at_most", "judged", "verdict"]

OURS = "ours"


@attrs.frozen
class Limit:
    """A bound: the sign that it is written with, and the bound itself."""

    sign: str
    bound: float

    def holds(self, value: float) -> bool:
        """Return whether `value` is within the bound."""
        return value >= self.bound if self.sign == "≥" else value <= self.bound

    def __str__(self) -> str:
        return f"{self.sign} {self.bound:g}"


def at_least(bound: float) -> Limit:
    """Make a lower bound."""
    return Limit("≥", bound)


def at_most(bound: float) -> Limit:
    """Make an upper bound."""
    return Limit("≤", bound)


@attrs.frozen
class Target:
    """One figure of one contender, or its ratio to another's, and what it is to be.

    Attributes:
        column: The figure.
        limit: What is to be reached, or None where the figure is only shown.
        beside: The contender by whose figure it is divided, or None.
        who: The contender whose figure it is.
    """

    column: Column
    limit: Limit | None = None
    beside: str | None = None
    who: str = OURS

    @property
    def title(self) -> str:
        """What the line is about."""
        whose = "" if self.who == OURS else f" of {self.who}"
        return f"{self.column.name}{whose}" + (f" ÷ {self.beside}" if self.beside else "")


def judged(title: str, value: float, limit: Limit | None, *, decimals: int = 2) -> str:
    """Write the line of a figure."""
    said = f"{title}: {value:,.{decimals}f}"
    if limit is None:
        return said
    return f"{said} ({limit}) – {'reached' if limit.holds(value) else 'missed'}"


def verdict(targets: Sequence[Target], runs: dict[str, list[Measured]], absent: dict[str, str]) -> list[str]:
    """Write a line for each target whose contenders were asked to play; where one gave no figures, it says why."""
    return [_line(target, runs, absent) for target in targets if {target.who, target.beside or target.who} <= {*runs}]


def _line(target: Target, runs: dict[str, list[Measured]], absent: dict[str, str]) -> str:
    for name in filter(None, (target.who, target.beside)):
        if name in absent or not runs.get(name):
            limit = f" ({target.limit})" if target.limit else ""
            return f"{target.title}: not measured{limit}, {name}: {absent.get(name, 'no run')}"
    value = figure(target.column, runs[target.who])
    if target.beside is None:
        return judged(target.title, value, target.limit, decimals=1)
    beside = figure(target.column, runs[target.beside])
    return judged(target.title, value / beside if beside else float("inf"), target.limit)
