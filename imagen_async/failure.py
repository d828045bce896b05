"""What a failed attempt is, and what it means for money.

The ground of the ground floor: errors carry their attempts, outcomes carry errors.
"""

from __future__ import annotations

import enum

import attrs

__all__ = ["Attempt", "FailureClass"]


class FailureClass(enum.StrEnum):
    """What a failed attempt means for money and for a retry; each failure is exactly one of these."""

    NEVER_SENT = "never_sent"
    """No byte of the request left: not billed, free to retry."""
    REFUSED = "refused"
    """The gateway declined before doing the work: not billed, retry when it says so."""
    AMBIGUOUS = "ambiguous"
    """The request was sent and the answer was lost: may have been billed."""
    REJECTED = "rejected"
    """This request can never succeed."""
    FATAL = "fatal"
    """No request can succeed: stop everything."""


@attrs.frozen(kw_only=True)
class Attempt:
    """One request that went out, or tried to, and did not bring the answer.

    Attributes:
        number: Counted from 1.
        at: When it ended, in seconds since the epoch.
        elapsed_s: How long it took.
        failure: What its failure means.
        error: The failure in words, safe to print.
        request_id: What to quote to the gateway's support, or None.
        doubtful: Images that may have been billed and did not arrive.
    """

    number: int
    at: float
    elapsed_s: float
    failure: FailureClass
    error: str
    request_id: str | None = None
    doubtful: int = 0
