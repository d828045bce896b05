"""When a limit that binds may grow again, and by how much: slowly at first and then faster and faster.

That is the second half of CUBIC's curve (RFC 9438): near the old limit careful steps, and if nothing turns them down
large ones, because then the limit has been raised.
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
        tuning: Says how large the steps are.
        patience: Seconds without a cut before it begins.
        grown: Whether it has grown since it began.
    """

    tuning: Tuning
    patience: float = attrs.field(init=False)
    grown: bool = False
    _next: float = math.inf
    _part: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.patience = self.tuning.patience

    def begin(self, *, now: float, patience: float = 0.0) -> None:
        """Begin again, after a cut, with at least so much patience."""
        self._next = now + max(self.patience, patience)
        self._part, self.grown = self.tuning.growth, False

    def double(self, *, now: float) -> None:
        """Grow by twice as much with each step, from the next one on."""
        self._next = now + self.tuning.step
        self._part = 1.0

    def due(self, *, now: float) -> float:
        """Return the part by which to grow now; mostly 0."""
        if now < self._next:
            return 0.0
        part, self.grown = self._part, self._part < 1.0
        self._part = part if part == 1.0 else min(self.tuning.fastest, 2 * part)
        self._next = now + self.tuning.step
        return part
