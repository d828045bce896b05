"""Constants of the pace; the defaults were found by simulation, see ``tests/limiter``."""

from __future__ import annotations

import attrs

__all__ = ["Tuning"]


@attrs.frozen(kw_only=True)
class Tuning:
    """Constants of the controller.

    Attributes:
        start: Requests in flight at first.
        margin: Part of the measured rate that is used, below 1: senders and limits do not count in step.
        patience: Seconds without a refusal before what binds begins to grow.
        per_wait: Where a refusal names a wait: as many times that wait is the least patience.
        step: Seconds between two steps of growth.
        growth: First step of growth, as a part; each further one is twice as large.
        fastest: Largest step.
        backoff: Seconds of the first pause after a refusal that names no wait and follows hard upon another one.
        longest_backoff: What that may grow to.
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
