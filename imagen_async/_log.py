"""The logger ``imagen_async``, and what it says about an error.

At INFO and above it logs no text that a gateway wrote, because such a text may repeat a prompt.
"""

from __future__ import annotations

import logging

from imagen_async.exceptions import (
    ConnectError,
    GatewayError,
    ImagenError,
    JournalError,
    LimitReachedError,
    ProtocolError,
    StoreError,
    TimeoutExceededError,
    UsageError,
    printable,
)

__all__ = ["LOG", "facts"]

LOG = logging.getLogger("imagen_async")
LOG.addHandler(logging.NullHandler())

_OURS = (ConnectError, JournalError, LimitReachedError, StoreError, TimeoutExceededError, UsageError)
"""Errors whose messages contain no text of a gateway."""


def facts(error: ImagenError) -> str:
    """Return what may be logged about an error: its class, and its message or facts in place of it.

    Example:
        >>> facts(GatewayError("who wants 'a red fox'?", status=502, request_id="r-7"))
        'GatewayError, HTTP 502, request id r-7'
    """
    name = type(error).__name__
    if isinstance(error, _OURS):
        return f"{name}: {printable(str(error), 200)}"
    if isinstance(error, GatewayError):
        return f"{name}, HTTP {error.status}" + (f", request id {error.request_id}" if error.request_id else "")
    return f"{name}, check {error.check}" if isinstance(error, ProtocolError) else name
