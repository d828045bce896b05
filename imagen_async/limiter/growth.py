"""When a limit that binds may grow again, and by how much: in small steps at first, then in larger ones.

This is the second half of CUBIC's curve (RFC 9438): small steps near the old limit, and large ones if those are not
refused, because then the limit has been raised.
"""

from __future__ import annotations

import math

import attrs

from imagen_async.limiter.tuning import Tuning

__all__ = ["Growth"]


@attrs.define
class Growth:
    """Growth of one limit.

    Attributes:
        tuning: Constants, the sizes of the steps among them.
        patience: Seconds after a cut before growth starts.
        grown: Whether the limit has grown since the last cut.
    """

    tuning: Tuning
    patience: float = attrs.field(init=False)
    grown: bool = False
    _next: float = math.inf
    _part: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.patience = self.tuning.patience

    def begin(self, *, now: float, patience: float = 0.0) -> None:
        """Start again after a cut, with at least this patience."""
        self._next = now + max(self.patience, patience)
        self._part, self.grown = self.tuning.growth, False

    def double(self, *, now: float) -> None:
        """Double the limit with each step, from the next step on."""
        self._next = now + self.tuning.step
        self._part = 1.0

    def due(self, *, now: float) -> float:
        """Return the part by which to grow now; usually 0."""
        if now < self._next:
            return 0.0
        part, self.grown = self._part, self._part < 1.0
        self._part = part if part == 1.0 else min(self.tuning.fastest, 2 * part)
        self._next = now + self.tuning.step
        return part
