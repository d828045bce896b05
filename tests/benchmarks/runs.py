"""Runs of contenders as they would have been measured, for tests of what is made of them."""

from __future__ import annotations

from typing import Any

import attrs

from benchmarks.contender import Measured

__all__ = ["ran"]

USUAL = Measured(
    images=100,
    seconds=1.0,
    cpu_seconds=0.2,
    rss_before=40_000_000,
    peak_rss=60_000_000,
    peak_reset=True,
    lag_p50=0.001,
    lag_p99=0.008,
    lag_max=0.03,
    beats=100,
    descriptors=33,
)


def ran(**changed: Any) -> Measured:
    """Return a run of 100 images in a second, with some figures replaced."""
    return attrs.evolve(USUAL, **changed)
