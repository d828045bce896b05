"""For how long the gateway asked to send nothing: headers and Google's ``retryDelay``, parsed defensively.

Sources: RFC 9110 section 10.2.3 (``Retry-After``: seconds or a date), the ``retry-after-ms`` header of OpenAI-shaped
gateways, ``google.rpc.RetryInfo``. A date is compared with the response's ``Date`` header if there is one, so that a
client whose clock is wrong neither sends too early nor waits for hours.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

__all__ = ["LONGEST", "retry_after", "retry_delay", "should_retry"]

LONGEST = 86_400.0
"""Seconds of the longest wait; a longer one counts as a day."""

_DURATION = re.compile(r"\s*([0-9]+(?:\.[0-9]*)?|\.[0-9]+)s\s*", re.ASCII)


def retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the wait that headers name.

    Args:
        headers: The response's headers, in a mapping that ignores case.
        now: Seconds since the epoch by the client's clock, for a date without a ``Date`` header.

    Returns:
        Seconds, 0 to `LONGEST`; None if the headers name no valid wait.

    Example:
        >>> retry_after({"Retry-After": "1.5"}, now=0)
        1.5
        >>> retry_after({"Retry-After": "nan"}, now=0)
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return _bounded(milliseconds / 1000)
    text = headers.get("Retry-After")
    seconds = _seconds(text)
    if seconds is not None:
        return _bounded(seconds)
    date = _date(text)
    if date is None:
        return None
    server_now = _date(headers.get("Date"))
    return _bounded(date - (now if server_now is None else server_now))


def retry_delay(details: object) -> float | None:
    """Return Google's ``retryDelay`` (``"11.8s"``) in ``error.details``.

    Example:
        >>> retry_delay([{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "11.8s"}])
        11.8
    """
    entries = details if isinstance(details, list) else [details]
    for entry in entries:
        text = entry.get("retryDelay") if isinstance(entry, Mapping) else None
        found = _DURATION.fullmatch(text) if isinstance(text, str) else None
        if found is not None:
            return _bounded(float(found[1]))
    return None


def should_retry(headers: Mapping[str, str]) -> bool | None:
    """Return the value of ``x-should-retry``, which overrides our own decision."""
    return {"true": True, "false": False}.get(headers.get("x-should-retry", "").strip().lower())


def _bounded(seconds: float) -> float:
    return min(max(seconds, 0.0), LONGEST)


def _seconds(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return None if math.isnan(value) or value < 0 else value


def _date(text: str | None) -> float | None:
    try:
        parsed = parsedate_to_datetime(text) if text is not None else None
        # A date without a zone is GMT by RFC 9110.
        return None if parsed is None else _epoch(parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC))
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _epoch(moment: datetime) -> float:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()
