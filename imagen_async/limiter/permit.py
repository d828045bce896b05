"""What the pace is told of a request: when it left and in what company, and what its end says about limits."""

from __future__ import annotations

import enum

import attrs

__all__ = ["Permit", "Verdict"]


class Verdict(enum.Enum):
    """What the end of a request says about the gateway's limits."""

    ACCEPTED = enum.auto()
    """It was worked on, whatever came of it."""
    REFUSED = enum.auto()
    """Too many: it was turned away."""
    OVERLOADED = enum.auto()
    """It broke down over it: a server's error, silence, a line cut."""
    NOTHING = enum.auto()
    """It never got there, or nobody waited for the answer."""


@attrs.frozen
class Permit:
    """One request under way.

    Attributes:
        number: Counts the requests.
        at: When it left.
        among: How many were under way with it.
        by_window: Whether the window was full with it.
        by_rate: Whether it had to wait for the rate.
    """

    number: int
    at: float
    among: int
    by_window: bool
    by_rate: bool
