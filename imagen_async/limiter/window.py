"""How many requests may be in flight: less after refusals and after overload, and more again after a while."""

from __future__ import annotations

import math

import attrs

from imagen_async.limiter.growth import Growth
from imagen_async.limiter.tuning import Tuning

__all__ = ["Window"]

_DOWN = 10
"""Failures in a row, and a window's worth at least, that speak of a gateway that was down."""

_LEFT = 0.7
"""What one cut for overload leaves at least: how much is too much is known but roughly."""

_FLOOR = 4.0
"""What overload leaves in any case."""

_MOST_PATIENCE = 60.0
"""Seconds after a cut for overload, of many, before growth is tried again."""


@attrs.define
class Window:
    """Requests in flight.

    Attributes:
        tuning: Constants.
        size: How many there may be.
        growth: When it grows, once it has been cut.
        fast_to: Up to this it grows by one with each request that is accepted, which doubles it each round trip.
    """

    tuning: Tuning
    size: float
    growth: Growth = attrs.field(init=False)
    fast_to: float = math.inf
    _cut_at: float = -math.inf
    _cut_to: float = 0.0
    _cut_after: float = math.inf
    _patience: float = attrs.field(init=False)
    _failures: int = 0
    _before: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.growth = Growth(self.tuning)
        self._patience = self.tuning.patience

    def grow(self, most: int, *, now: float) -> None:
        """Note that a request was accepted with which the window was full."""
        if self.size >= most:
            return
        by = 1.0
        if self.size >= self.fast_to:
            part = self.growth.due(now=now)
            by = max(1.0, self.size * part) if part else 0.0
        self.size = min(float(most), self.size + by)

    def tried(self, *, now: float, seconds: float) -> bool:
        """Whether it was cut in the last `seconds` to what had been taken: then it is not what is refused."""
        return self.size <= self._cut_to and now - self._cut_at < seconds

    def cut(self, in_flight: int, *, after: int, now: float) -> None:
        """Cut to what is in flight; refusals up to request `after` have been answered before."""
        self.size = self._cut_to = max(1.0, min(self.size, float(in_flight)))
        self._cut_at, self._cut_after = now, after
        self.fast_to = 0.0
        self.growth.begin(now=now)

    def was_innocent(self) -> None:
        """Note that another limit was cut."""
        self._cut_after = math.inf

    def overtaken(self, number: int) -> None:
        """Note that request `number`, which left before the cut and was counted as in flight, was refused as well."""
        if number > self._cut_after:
            self.size = self._cut_to = max(1.0, self.size - 1.0)

    def failed(self) -> None:
        """Note that the gateway broke down over a request."""
        if not self._failures:
            self._before = self.size
        self._failures += 1

    def worked(self) -> None:
        """Note that a request was accepted: after a whole window of failures the gateway was down, and is back."""
        if self._failures >= max(_DOWN, self.size):
            self.fast_to = max(self.fast_to, self._before)
        self._failures = 0

    def crowd(self, among: int, *, share: float, now: float) -> None:
        """Cut for overload: of `among` requests in flight, about the `share` was too much."""
        if self.size <= _FLOOR:
            return
        if self.growth.grown:
            self._patience = min(2 * self._patience, _MOST_PATIENCE)
        self.size = max(min(self.size, float(among)) * max(_LEFT, 1.0 - share), _FLOOR)
        self.fast_to, self._cut_at, self._cut_after = 0.0, now, math.inf
        self.growth.begin(now=now, patience=self._patience)
