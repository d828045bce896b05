"""How many requests may be in flight: fewer after refusals and overload, and more again later."""

from __future__ import annotations

import math

import attrs

from imagen_async.limiter.growth import Growth
from imagen_async.limiter.tuning import Tuning

__all__ = ["Window"]

_DOWN = 10
"""Failures in a row, and at least a whole window of them, that mean an outage."""

_LEFT = 0.7
"""Least part that one cut for overload leaves, because the excess is only an estimate."""

_FLOOR = 4.0
"""Size that overload always leaves."""

_MOST_PATIENCE = 60.0
"""Longest patience in seconds after repeated cuts for overload."""


@attrs.define
class Window:
    """The limit on requests in flight.

    Attributes:
        tuning: Constants.
        size: The limit.
        growth: When it grows after a cut.
        fast_to: Up to this size it grows by one with each accepted request, which doubles it each round trip.
        failures: Requests in a row that the gateway failed on.
    """

    tuning: Tuning
    size: float
    growth: Growth = attrs.field(init=False)
    fast_to: float = math.inf
    failures: int = 0
    _cut_at: float = -math.inf
    _cut_to: float = 0.0
    _cut_after: float = math.inf
    _patience: float = attrs.field(init=False)
    _before: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.growth = Growth(self.tuning)
        self._patience = self.tuning.patience

    def grow(self, most: int, *, now: float) -> None:
        """Grow, because a request was accepted that had filled the window."""
        if self.size >= most:
            return
        by = 1.0
        if self.size >= self.fast_to:
            part = self.growth.due(now=now)
            by = max(1.0, self.size * part) if part else 0.0
        self.size = min(float(most), self.size + by)

    def tried(self, *, now: float, seconds: float) -> bool:
        """Return whether a cut to what was accepted is at most `seconds` old: then another limit is refused."""
        return self.size <= self._cut_to and now - self._cut_at < seconds

    def cut(self, in_flight: int, *, after: int, now: float) -> None:
        """Cut to what is in flight; an earlier cut was made for refusals up to request `after`."""
        self.size = self._cut_to = max(1.0, min(self.size, float(in_flight)))
        self._cut_at, self._cut_after = now, after
        self.fast_to = 0.0
        self.growth.begin(now=now)

    def spare(self) -> None:
        """Count no late refusals, because another limit was cut."""
        self._cut_after = math.inf

    def overtaken(self, number: int) -> None:
        """Shrink by request `number`: it was counted as in flight at the cut, and is refused as well."""
        if number > self._cut_after:
            self.size = self._cut_to = max(1.0, self.size - 1.0)

    def failed(self) -> None:
        """Count a request that the gateway failed on."""
        if not self.failures:
            self._before = self.size
        self.failures += 1

    def worked(self) -> None:
        """Note that a request was accepted; after a whole window of failures, an outage has ended."""
        if self.failures >= max(_DOWN, self.size):
            self.fast_to = max(self.fast_to, self._before)
        self.failures = 0

    def crowd(self, among: int, *, share: float, now: float) -> None:
        """Cut for overload: of `among` requests in flight, about this share was too much."""
        if self.size <= _FLOOR:
            return
        if self.growth.grown:
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
        self.size = max(min(self.size, float(among)) * max(_LEFT, 1.0 - share), _FLOOR)
        self.fast_to, self._cut_at, self._cut_after = 0.0, now, math.inf
        self.growth.begin(now=now, patience=self._patience)
