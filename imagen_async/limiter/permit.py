"""A permit to send one request, and what the end of that request says about the gateway's limits."""

from __future__ import annotations

import enum

import attrs

__all__ = ["Permit", "Verdict"]


class Verdict(enum.Enum):
    """What the end of a request says about the gateway's limits."""

    ACCEPTED = enum.auto()
    """The gateway worked on it, with whatever result."""
    REFUSED = enum.auto()
    """The gateway refused it (429)."""
    OVERLOADED = enum.auto()
    """The gateway failed: a 5xx, a timeout, a lost connection."""
    NOTHING = enum.auto()
    """It never arrived, or its caller was cancelled."""


@attrs.frozen
class Permit:
    """A request that may leave, or is in flight.

    Attributes:
        number: Counts the requests of a pacer.
        at: When it left.
        among: How many requests were in flight with it.
        by_window: Whether it filled the window.
        by_rate: Whether it had to wait for the rate.
    """

    number: int
    at: float
    among: int
    by_window: bool
    by_rate: bool
