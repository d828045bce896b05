"""The readers of waits: any headers come to none, or to a number of seconds from 0 to a day, and to the right one.

An input is header lines.
"""

from __future__ import annotations

import math
import re

from imagen_async.wire.retry_after import LONGEST as LONGEST_WAIT
from imagen_async.wire.retry_after import retry_after, retry_delay, should_retry
from tests.fuzz.targets.errors import headers_of

__all__ = ["LONGEST", "WORDS", "check"]

LONGEST = 256
WORDS = (
    b"Retry-After: ", b"retry-after-ms: ", b"Date: ", b"x-should-retry: ", b"\n", b"Fri, 31 Dec 1999 23:59:59 GMT",
    b"Friday, 31-Dec-99 23:59:59 GMT", b"Fri Dec 31 23:59:59 1999", b" +0000", b" -2500", b" EST", b" AM", b"Mon, ",
    b"Feb", b"29", b"00:00", b"9999", b"0.5", b"1e309", b"nan", b"inf", b"-1", b"1_0", b"(", b")", b",", b"\xd9\xa1",
)  # fmt: skip

_NOW = 1_800_000_000.0
_LATER = 10.0


def check(lines: bytes) -> None:
    """Read every wait that the header lines may hold, by two clocks."""
    headers = headers_of(lines)
    wait = retry_after(headers, now=_NOW)
    assert wait is None or (math.isfinite(wait) and 0 <= wait <= LONGEST_WAIT)
    assert should_retry(headers) in {None, True, False}
    _of_another_clock(headers.get("Retry-After", ""), wait, retry_after(headers, now=_NOW + _LATER))
    if "retry-after-ms" not in headers and re.fullmatch("[0-9]{1,300}", headers.get("Retry-After", ""), re.ASCII):
        assert wait == min(float(headers["Retry-After"]), LONGEST_WAIT)
    delay = retry_delay([{"retryDelay": text} for text in headers.values()])
    assert delay is None or 0 <= delay <= LONGEST_WAIT


def _of_another_clock(text: str, wait: float | None, later: float | None) -> None:
    """A wait does not depend on our clock, except for a date without the server's own date."""
    assert (wait is None) == (later is None)
    if wait is not None and later is not None and wait != later:
        assert re.search("[0-9]", text)
        assert later == max(0.0, wait - _LATER) or wait == LONGEST_WAIT
