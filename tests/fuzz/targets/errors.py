"""The classifier of errors: every response becomes one typed error with a bounded, printable message.

An input looks like an answer: the status in the first line, headers up to an empty line, then the body.
"""

from __future__ import annotations

import json
import pickle
import re
from contextlib import suppress

from multidict import CIMultiDict

from imagen_async.exceptions import GatewayError, ProtocolError
from imagen_async.wire.errors import failure_class, gateway_error
from imagen_async.wire.families.imagen import read_models
from imagen_async.wire.reasons import filter_reasons
from imagen_async.wire.retry_after import LONGEST as LONGEST_WAIT
from imagen_async.wire.retry_after import retry_delay, should_retry
from tests.fuzz.cutting import chance_of

__all__ = ["LONGEST", "WORDS", "check", "headers_of"]

LONGEST = 4096
WORDS = (
    b'{"error":', b'"message":', b'"msg":', b'"err":', b'"error_msg":', b'"detail":', b'"code":', b'"type":',
    b'"param":', b'"status":', b'"details":', b'"retryDelay":', b'"11.8s"', b'"loc":', b'["body","n"]', b'"data":',
    b'"id":',
    b'"raiFilteredReason":', b"Support codes: 1, 2", b"(request id: x)", b"model_not_found", b"insufficient_quota",
    b"<html>", b"<title>", b"\x1b[31m", b"\\u001b", b"\\ud800", b"x-request-id: ", b"Retry-After: ",
    b"x-should-retry: ",
    b"null", b"429\n\n", b"503\n", b"\n\n", b'{\\"message\\":', b"\xff", b"\xe2\x80\xae",
)  # fmt: skip

_NOW = 1_800_000_000.0
_LONGEST_TEXT = 500 * len("\\U0001f98a")
"""A text is cut to 500 characters before those that do not print are spelled out."""
_LONGEST_BODY = 2**19
_ONE_IN = 64


def check(answer: bytes) -> None:
    """Classify a response; sometimes an enlarged one, on which work that is not linear would not end."""
    head, _, body = answer.partition(b"\n\n")
    first, _, rest = head.partition(b"\n")
    found = re.search(rb"[0-9]{1,3}", first)
    status = 100 + (int(found[0]) - 100) % 900 if found else 500
    headers = headers_of(rest)
    _classify(201 if status == 200 else status, headers, body)
    if body and not chance_of(answer).randrange(_ONE_IN):
        _classify(500, headers, (body * (_LONGEST_BODY // len(body)))[:_LONGEST_BODY])
    _read_document(headers, body)


def headers_of(lines: bytes) -> CIMultiDict[str]:
    """Read header lines as aiohttp hands them on: any bytes in their values, and no line ends."""
    pairs = (line.partition(b":") for line in lines.split(b"\n"))
    return CIMultiDict(
        (name.decode("latin-1"), value.strip(b" \t\r").decode("utf-8", "surrogateescape")) for name, _, value in pairs
    )


def _classify(status: int, headers: CIMultiDict[str], body: bytes) -> None:
    error = gateway_error(status, headers, body, now=_NOW)
    assert failure_class(error) is not None
    assert str(error).isprintable()
    assert error.message
    assert len(error.message) <= _LONGEST_TEXT
    assert repr(pickle.loads(pickle.dumps(error))) == repr(error)  # noqa: S301 - our own
    if isinstance(error, ProtocolError):
        assert status < 300
    else:
        _look_at(error)


def _look_at(error: GatewayError) -> None:
    for field in (error.code, error.kind, error.param, error.request_id, *error.support_codes):
        assert field is None or (field.isprintable() and len(field) <= _LONGEST_TEXT)
    assert error.retry_after is None or 0 <= error.retry_after <= LONGEST_WAIT
    assert error.should_retry in {None, True, False}


def _read_document(headers: CIMultiDict[str], body: bytes) -> None:
    assert should_retry(headers) in {None, True, False}
    try:
        document = json.loads(body, strict=False)
    except (ValueError, RecursionError):
        return
    wait = retry_delay(document)
    assert wait is None or 0 <= wait <= LONGEST_WAIT
    with suppress(ProtocolError):
        assert all(isinstance(name, str) for name in read_models(body))
    if isinstance(document, dict):
        assert all(reason.isprintable() and len(reason) <= _LONGEST_TEXT for reason in filter_reasons(document))
