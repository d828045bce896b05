"""Time limits of one attempt."""

from __future__ import annotations

import attrs

__all__ = ["Timeouts"]


@attrs.frozen(kw_only=True)
class Timeouts:
    """Seconds; None for no limit. The wait for a slot counts in none of them.

    Attributes:
        connect: To connect, TLS included.
        read: From the request to its answer's headers, and between two reads of the body; a generation may be silent
            for minutes.
        total: For one whole attempt, as far as it is the gateway that is waited for.
    """

    connect: float | None = 10.0
    read: float | None = 300.0
    total: float | None = 900.0
