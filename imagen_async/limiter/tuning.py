"""Constants of the controller; the defaults were found by simulation, see ``tests/limiter``."""

from __future__ import annotations

import attrs

__all__ = ["Tuning"]


@attrs.frozen(kw_only=True)
class Tuning:
    """Constants of the controller.

    Attributes:
        start: Requests in flight at first.
        margin: Part of the measured rate that is used; below 1, because client and gateway do not count in step.
        patience: Seconds without a refusal before the limit that binds starts to grow.
        per_wait: The least patience after a refusal that names a wait, as a multiple of that wait.
        step: Seconds between two steps of growth.
        growth: First step of growth, as a part; each further step is twice as large.
        fastest: Largest step.
        backoff: Seconds of the first pause after a refusal that names no wait and directly follows another one.
        longest_backoff: Seconds of the longest such pause.
    """

    start: int = 8
    margin: float = 0.975
    patience: float = 2.0
    per_wait: float = 20.0
    step: float = 0.5
    growth: float = 0.03
    fastest: float = 0.5
    backoff: float = 0.1
    longest_backoff: float = 60.0
