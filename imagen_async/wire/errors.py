"""What an error response means: from status, headers and body to one typed error and one failure class.

Gateways of this family send errors in a dozen shapes, often in Chinese, so errors are classified by status and code,
never by text. Sources: the gateway's table of statuses, and bodies recorded from gateways of its family.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from imagen_async.exceptions import (
    AuthenticationError,
    EndpointNotFoundError,
    FailureClass,
    GatewayError,
    ImagenError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectedError,
    RejectedError,
    TransportError,
    UsageError,
    printable,
)
from imagen_async.wire import retry_after as waits
from imagen_async.wire.reasons import support_codes
from imagen_async.wire.response import request_id

__all__ = ["failure_class", "gateway_error"]

_REQUEST_ID_TEXT = re.compile(r"\(request id: ([^()\s]{1,128})\)\s*$")
# A tag must not contain "<": otherwise a page of nothing but "<" would take quadratic time.
_TAG_OR_SPACE = re.compile(r"<[^<>]*>|\s+")
_QUOTA_CODES = frozenset({"insufficient_user_quota", "insufficient_quota", "billing_hard_limit_reached"})
_MESSAGE_KEYS = ("message", "msg", "err", "error_msg", "detail", "error")
_TEXT_LIMIT = 500
_NO_SUCH_URL = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED})


def gateway_error(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float, unproven_url: str | None = None
) -> GatewayError | ProtocolError:
    """Return the typed error of a response that is not a 200.

    Another status below 300 breaks the contract: the work may have been done, but its images are not in the response.

    Args:
        status: The HTTP status.
        headers: The response's headers, in a mapping that ignores case.
        body: The body, or its beginning; any bytes.
        now: Seconds since the epoch by the client's clock.
        unproven_url: The URL of the request, if none has succeeded there: then it may be wrong.

    Example:
        >>> error = gateway_error(401, {}, b'{"error": {"message": "no such key", "code": "invalid_api_key"}}', now=0)
        >>> type(error).__name__, error.code
        ('AuthenticationError', 'invalid_api_key')
    """
    if status < HTTPStatus.MULTIPLE_CHOICES:
        named = request_id(headers)
        return ProtocolError("status", f"the gateway responded with status {status} instead of 200", request_id=named)
    fields = _fields(_document(body))
    message = _message(fields, body) or f"the gateway responded with status {status} and no message"
    if status < HTTPStatus.BAD_REQUEST and (elsewhere := _text(headers.get("Location"))) is not None:
        message += f"; it sends us to {elsewhere} (its header Location), where nothing is sent: mend the base URL"
    code = _text(fields.get("code"))
    wait = waits.retry_after(headers, now=now)
    kind = _kind(status, code)
    if kind is RejectedError and status in _NO_SUCH_URL and unproven_url is not None:
        kind = EndpointNotFoundError
        message = (
            f"no POST at {unproven_url}: check the base URL, which usually ends in /v1. The gateway says: {message}"
        )
    return kind(
        message,
        status=status,
        code=code,
        kind=_text(fields.get("type")) or _text(fields.get("status")),
        param=_text(fields.get("param")),
        request_id=request_id(headers) or _id_in(message),
        retry_after=waits.retry_delay(fields.get("details")) if wait is None else wait,
        should_retry=waits.should_retry(headers),
        support_codes=support_codes(message),
    )


def failure_class(error: ImagenError) -> FailureClass | None:
    """Return what a failed attempt means for money and for a retry; None if neither gateway nor network caused it.

    Example:
        >>> failure_class(TransportError("connection refused", sent=False))
        <FailureClass.NEVER_SENT: 'never_sent'>
    """
    if isinstance(error, TransportError):
        return FailureClass.AMBIGUOUS if error.sent else FailureClass.NEVER_SENT
    if isinstance(error, OverloadedError):
        # RFC 9110 section 15.6.4: a 503 with Retry-After is a refusal, before any work was done.
        refused = error.status == HTTPStatus.SERVICE_UNAVAILABLE and error.retry_after is not None
        return FailureClass.REFUSED if refused else FailureClass.AMBIGUOUS
    return next((failure for kinds, failure in _CLASSES if isinstance(error, kinds)), None)


_CLASSES: tuple[tuple[type[ImagenError] | tuple[type[ImagenError], ...], FailureClass], ...] = (
    (ProtocolError, FailureClass.AMBIGUOUS),
    (RateLimitError, FailureClass.REFUSED),
    # UsageError: a setting that cannot be sent, or a closed session, which is the same for every request.
    (
        (
            AuthenticationError,
            EndpointNotFoundError,
            ModelNotFoundError,
            PermissionDeniedError,
            RedirectedError,
            UsageError,
        ),
        FailureClass.FATAL,
    ),
    (GatewayError, FailureClass.REJECTED),
)


def _kind(status: int, code: str | None) -> type[GatewayError]:
    if code == "model_not_found":
        return ModelNotFoundError
    if code in _QUOTA_CODES:
        return PermissionDeniedError
    if status == HTTPStatus.REQUEST_TIMEOUT or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return OverloadedError
    return _KINDS.get(status, RedirectedError if status < HTTPStatus.BAD_REQUEST else RejectedError)


_KINDS: Mapping[int, type[GatewayError]] = {
    HTTPStatus.UNAUTHORIZED: AuthenticationError,
    HTTPStatus.PAYMENT_REQUIRED: PermissionDeniedError,
    HTTPStatus.FORBIDDEN: PermissionDeniedError,
    HTTPStatus.TOO_MANY_REQUESTS: RateLimitError,
}


def _document(body: bytes) -> object:
    try:
        return json.loads(body.decode("utf-8-sig", "replace"), strict=False)
    except (ValueError, RecursionError):
        return None


def _fields(document: object) -> Mapping[str, Any]:
    """Find the table with message and code inside its wrappers."""
    if not isinstance(document, Mapping):
        return {}
    inner = document.get("error")
    table: dict[str, Any] = dict(inner) if isinstance(inner, Mapping) else dict(document)
    nested = _nested(table.get("message"))
    # A gateway in front of another one: the inner error is closer to the cause.
    table.update((key, value) for key, value in nested.items() if value is not None and value != "")
    return table


def _nested(message: object) -> Mapping[str, Any]:
    """Parse the JSON that some gateways put into ``error.message`` as text."""
    if not isinstance(message, str) or not message.lstrip().startswith("{"):
        return {}
    return _fields(_document(message.encode("utf-8", "replace")))


def _message(fields: Mapping[str, Any], body: bytes) -> str:
    for key in _MESSAGE_KEYS:
        text = _text(fields.get(key)) if key != "detail" else "; ".join(_details(fields.get(key)))
        if text:
            return printable(text, _TEXT_LIMIT)
    return printable(_TAG_OR_SPACE.sub(" ", body.decode("utf-8", "replace")).strip(), 200)


def _details(detail: object) -> Iterator[str]:
    """Return the messages of FastAPI's ``detail``: a text, or a list of problems with their locations."""
    for entry in detail if isinstance(detail, list) else [detail]:
        if isinstance(entry, Mapping):
            loc = entry.get("loc")
            place = ".".join(_spelled(part) for part in loc) if isinstance(loc, list) else ""
            problem = _spelled(entry.get("msg", entry))
            yield printable(f"{place}: {problem}", _TEXT_LIMIT) if place else problem
        elif entry is not None:
            yield _spelled(entry)


def _spelled(value: object) -> str:
    try:
        return printable(str(value), _TEXT_LIMIT)
    except RecursionError:
        return "…"


def _text(value: object) -> str | None:
    """Return a field as one printable line; None if it is missing, or neither text nor a number."""
    if value is None or value == "" or isinstance(value, bool | Mapping | list):
        return None
    return printable(str(value), _TEXT_LIMIT)


def _id_in(message: str) -> str | None:
    found = _REQUEST_ID_TEXT.search(message)
    return found[1] if found else None
