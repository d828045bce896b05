"""What an error answer means: from status, headers and body to one typed error and one failure class.

Gateways of this family answer errors in a dozen shapes, often in Chinese: classification goes by status and code,
never by text. Sources: the gateway's table of statuses and bodies recorded from gateways of its family.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus
from typing import Any

from imagen_async.exceptions import (
    AuthenticationError,
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

__all__ = ["failure_class", "gateway_error", "request_id"]

_REQUEST_ID_HEADERS = ("x-request-id", "X-Oneapi-Request-Id", "x-litellm-call-id")
_REQUEST_ID_TEXT = re.compile(r"\(request id: ([^()\s]{1,128})\)\s*$")
# A tag ends before the next one begins: a page of nothing but "<" is looked at once, not once for each of them.
_TAG_OR_SPACE = re.compile(r"<[^<>]*>|\s+")
_QUOTA_CODES = frozenset({"insufficient_user_quota", "insufficient_quota", "billing_hard_limit_reached"})
_MESSAGE_KEYS = ("message", "msg", "err", "error_msg", "detail", "error")
_TEXT_LIMIT = 500


def gateway_error(status: int, headers: Mapping[str, str], body: bytes, *, now: float) -> GatewayError | ProtocolError:
    """Make the typed error of an answer that is not a 200.

    A status below 300 that is not 200 breaks the contract: the work may have been done, and is not here.

    Args:
        status: The HTTP status.
        headers: Looked up without regard to case by the mapping itself.
        body: As much of the body as was read; any bytes at all.
        now: Seconds since the epoch by the client's clock.

    Example:
        >>> error = gateway_error(401, {}, b'{"error": {"message": "no such key", "code": "invalid_api_key"}}', now=0)
        >>> type(error).__name__, error.code
        ('AuthenticationError', 'invalid_api_key')
    """
    if status < HTTPStatus.MULTIPLE_CHOICES:
        named = request_id(headers)
        return ProtocolError("status", f"the gateway answered {status} where 200 was due", request_id=named)
    fields = _fields(_document(body))
    message = _message(fields, body) or f"the gateway answered {status} without a word"
    if status < HTTPStatus.BAD_REQUEST and (elsewhere := _text(headers.get("Location"))) is not None:
        message += f"; it sends us to {elsewhere} (its header Location), where nothing is sent: mend the base URL"
    code = _text(fields.get("code"))
    wait = waits.retry_after(headers, now=now)
    return _kind(status, code)(
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


def request_id(headers: Mapping[str, str]) -> str | None:
    """Read the gateway's name for a request, made printable."""
    for name in _REQUEST_ID_HEADERS:
        if found := headers.get(name):
            return printable(found, 128)
    return None


def failure_class(error: ImagenError) -> FailureClass | None:
    """Say what a failed attempt means for money and for a retry; None for what no gateway and no network brought about.

    Example:
        >>> failure_class(TransportError("connection refused", sent=False))
        <FailureClass.NEVER_SENT: 'never_sent'>
    """
    if isinstance(error, TransportError):
        return FailureClass.AMBIGUOUS if error.sent else FailureClass.NEVER_SENT
    if isinstance(error, OverloadedError):
        # RFC 9110 section 15.6.4: a 503 with Retry-After is a refusal, made before the work.
        refused = error.status == HTTPStatus.SERVICE_UNAVAILABLE and error.retry_after is not None
        return FailureClass.REFUSED if refused else FailureClass.AMBIGUOUS
    return next((failure for kinds, failure in _CLASSES if isinstance(error, kinds)), None)


_CLASSES: tuple[tuple[type[ImagenError] | tuple[type[ImagenError], ...], FailureClass], ...] = (
    (ProtocolError, FailureClass.AMBIGUOUS),
    (RateLimitError, FailureClass.REFUSED),
    # A setting that cannot be sent, a closed session: it is the same for every request.
    (
        (AuthenticationError, PermissionDeniedError, ModelNotFoundError, RedirectedError, UsageError),
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
    """Find the table that holds message and code, whatever it is wrapped in."""
    if not isinstance(document, Mapping):
        return {}
    inner = document.get("error")
    table: dict[str, Any] = dict(inner) if isinstance(inner, Mapping) else dict(document)
    nested = _nested(table.get("message"))
    # A gateway before a gateway: what the inner one said is nearer to the cause.
    table.update((key, value) for key, value in nested.items() if value is not None and value != "")
    return table


def _nested(message: object) -> Mapping[str, Any]:
    """Read the JSON that some gateways put, whole, into ``error.message``."""
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
    """Read FastAPI's ``detail``: a sentence, or a list of complaints with their places."""
    for entry in detail if isinstance(detail, list) else [detail]:
        if isinstance(entry, Mapping):
            loc = entry.get("loc")
            place = ".".join(_spelled(part) for part in loc) if isinstance(loc, list) else ""
            told = _spelled(entry.get("msg", entry))
            yield printable(f"{place}: {told}", _TEXT_LIMIT) if place else told
        elif entry is not None:
            yield _spelled(entry)


def _spelled(value: object) -> str:
    try:
        return printable(str(value), _TEXT_LIMIT)
    except RecursionError:
        return "…"


def _text(value: object) -> str | None:
    """Make one printable line of a field that may be text, a number, or missing in several ways."""
    if value is None or value == "" or isinstance(value, bool | Mapping | list):
        return None
    return printable(str(value), _TEXT_LIMIT)


def _id_in(message: str) -> str | None:
    found = _REQUEST_ID_TEXT.search(message)
    return found[1] if found else None
