"""Every error of this library, grouped by what failed.

``except ImagenError`` catches all of them; a narrower clause names the cause::

    ImagenError
    ├── UsageError                your input; nothing was sent (also a ValueError)
    │   ├── InvalidRequestError   a request breaks rules of the API; all of them are listed
    │   ├── InvalidInputError     rows of an input break rules of the API
    │   ├── ConfigurationError    a key, URL, setting or folder is invalid
    │   └── MissingExtraError     an optional dependency is not installed (also an ImportError)
    ├── TransportError            the network
    │   ├── ConnectError          no connection; no byte of the request was sent (also a ConnectionError)
    │   ├── DisconnectedError     the connection broke after bytes were sent
    │   └── TimeoutExceededError  a timeout expired (also a TimeoutError)
    ├── GatewayError              the gateway's response is an error
    │   ├── RejectedError         400, 404, 413, 422: this request can never succeed
    │   │   └── EndpointNotFoundError  404, 405 before any success: the base URL is wrong
    │   ├── AuthenticationError   401: the key is invalid, expired or used up
    │   ├── PermissionDeniedError 403: the address, model or quota is not allowed
    │   ├── ModelNotFoundError    the gateway does not serve this model, whatever the status
    │   ├── RedirectedError       3xx: the gateway has another URL
    │   ├── RateLimitError        429
    │   ├── OverloadedError       408 and 5xx
    │   └── FilteredError         a 200 without images: the safety filter removed all of them
    ├── ProtocolError             a 200 whose body is invalid: which check failed, at which byte
    ├── StoreError                a store did not accept an image
    ├── JournalError              the journal cannot be read or written
    │   └── JournalLockedError    another run uses the folder
    ├── LimitReachedError         a cap on images or money was reached
    └── OutageError               the gateway does not respond, and the retry quota is used up

As the built-in `ConnectionError` and `TimeoutError`, so `ConnectError` and `TimeoutExceededError` are `OSError`.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = [
    "Attempt",
    "AuthenticationError",
    "ConfigurationError",
    "ConnectError",
    "DisconnectedError",
    "EndpointNotFoundError",
    "FailureClass",
    "FilteredError",
    "GatewayError",
    "ImagenError",
    "InvalidInputError",
    "InvalidRequestError",
    "JournalError",
    "JournalLockedError",
    "LimitReachedError",
    "MissingExtraError",
    "ModelNotFoundError",
    "OutageError",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "RateLimitError",
    "RedirectedError",
    "RejectedError",
    "StoreError",
    "TimeoutExceededError",
    "TransportError",
    "UsageError",
    "printable",
]


def printable(text: str, limit: int = 500) -> str:
    r"""Return text that is safe on a terminal and in a log line.

    Control characters (escape sequences, CR, LF), bidirectional overrides and lone surrogates are escaped, and text
    longer than `limit` characters is cut with an ellipsis.

    Example:
        >>> printable("bad\x1b[31m\nnews")
        'bad\\x1b[31m\\nnews'
    """
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


class FailureClass(enum.StrEnum):
    """What a failed attempt means for money and for retries; each failed attempt is of exactly one class."""

    NEVER_SENT = "never_sent"
    """No byte of the request was sent: not billed, retried."""
    REFUSED = "refused"
    """The gateway declined before any work: not billed, retried when the gateway allows it."""
    AMBIGUOUS = "ambiguous"
    """The request was sent and no usable response arrived: may have been billed."""
    REJECTED = "rejected"
    """This request can never succeed: not retried."""
    FATAL = "fatal"
    """No request can succeed: everything stops."""


@attrs.frozen(kw_only=True)
class Attempt:
    """One failed attempt of a job.

    Attributes:
        number: Counted from 1.
        at: When it ended, in seconds since the epoch.
        elapsed_s: Its duration in seconds.
        failure: The class of its failure.
        error: The error's message, safe to print.
        request_id: The gateway's id of the request, for its support, or None.
        doubtful: Images in doubt: they may have been billed, and they did not arrive.
    """

    number: int
    at: float
    elapsed_s: float
    failure: FailureClass
    error: str
    request_id: str | None = None
    doubtful: int = 0


class ImagenError(Exception):
    """The base class of every error of this library.

    Attributes:
        attempts: The failed attempts that led to this error, oldest first; empty if nothing was sent.
    """

    attempts: tuple[Attempt, ...] = ()

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The message without the facts that `str` adds, such as the status or the byte."""
        return str(self.args[0])

    def __reduce__(self) -> tuple[Any, ...]:
        # Keyword-only fields live in __dict__; the default would call __init__ with args alone and fail.
        return _restore, (type(self), self.args, self.__dict__)


def _restore(kind: type[ImagenError], args: tuple[Any, ...], state: dict[str, Any]) -> ImagenError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class UsageError(ImagenError, ValueError):
    """A request, an input or a setting is invalid; nothing was sent."""


class InvalidRequestError(UsageError):
    """A request breaks rules of the API.

    Attributes:
        problems: Every mistake in the request, each in a sentence.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("invalid request: " + "; ".join(self.problems))


class InvalidInputError(UsageError):
    """Rows of an input are invalid.

    Attributes:
        source: The name of the input.
        problems: ``(line, mistakes)`` of the first invalid rows, in the order of the input; lines count from 1.
        total: The number of invalid rows, which may exceed ``len(problems)``.
    """

    def __init__(self, source: str, problems: Iterable[tuple[int, tuple[str, ...]]], total: int) -> None:
        self.source = source
        self.problems = tuple(problems)
        self.total = total
        rows = "".join(f"\n  line {line}: {'; '.join(mistakes)}" for line, mistakes in self.problems)
        left = total - len(self.problems)
        more = f"\n  … and {left} more" if left > 0 else ""
        noun = "row is" if total == 1 else "rows are"
        super().__init__(f"{source}: {total} {noun} invalid, nothing was sent for them{rows}{more}")


class ConfigurationError(UsageError):
    """A key, URL, setting or folder is invalid, or an object is used in a way that cannot work."""


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is not installed.

    Attributes:
        feature: What needs it.
        extra: The extra of this package that installs it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(f"{feature} needs an extra: pip install 'imagen-async[{extra}]'")


class TransportError(ImagenError):
    """The network failed.

    Attributes:
        sent: Whether a byte of the request may have been sent; such a request may have been billed.
        offset: How many bytes of the response's body had arrived, or None before its headers.
    """

    offset: int | None = None

    def __init__(self, message: str, *, sent: bool, offset: int | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.offset = offset

    def __str__(self) -> str:
        return self.message if self.offset is None else f"{self.message}, at byte {self.offset} of the response"


class ConnectError(TransportError, ConnectionError):
    """No connection could be made (DNS, refused, TLS, proxy); no byte of the request was sent."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class DisconnectedError(TransportError):
    """The connection broke during the request."""


class TimeoutExceededError(TransportError, TimeoutError):
    """A timeout of `Timeouts` expired.

    Attributes:
        phase: ``"connect"``, ``"read"`` (until the headers, or between two reads) or ``"total"`` (the whole attempt).
        seconds: The timeout that expired.
    """

    def __init__(self, phase: str, seconds: float, *, sent: bool, offset: int | None = None) -> None:
        self.phase = phase
        self.seconds = seconds
        super().__init__(f"the {phase} timeout of {seconds:g} s expired", sent=sent, offset=offset)


class GatewayError(ImagenError):
    """The gateway responded with an error.

    Attributes:
        status: The HTTP status.
        code: The gateway's error code as text, or None.
        kind: The gateway's error type, or None.
        param: The request field that the gateway names, or None.
        request_id: The gateway's id of the request, for its support, or None.
        retry_after: Seconds for which the gateway asked to send nothing, or None.
        should_retry: The gateway's ``x-should-retry`` header, or None.
        support_codes: The support codes of Google's safety filter, as text.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int,
        code: str | None = None,
        kind: str | None = None,
        param: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        support_codes: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.kind = kind
        self.param = param
        self.request_id = request_id
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.support_codes = support_codes

    def __str__(self) -> str:
        named = (
            ("code", self.code),
            ("type", self.kind),
            ("param", self.param),
            ("request id", self.request_id),
        )
        facts = "".join(f", {name} {value}" for name, value in named if value is not None)
        return f"{self.message} (HTTP {self.status}{facts})"


class RejectedError(GatewayError):
    """The gateway can never accept this request: it is invalid, too large, or its prompt is blocked."""


class EndpointNotFoundError(RejectedError):
    """The gateway does not know the URL, and no request of this client has succeeded there; correct the base URL."""


class AuthenticationError(GatewayError):
    """The key is invalid, expired or used up; no job can succeed with it."""


class PermissionDeniedError(GatewayError):
    """The address, the model or the quota is not allowed; no job can succeed until that changes."""


class ModelNotFoundError(GatewayError):
    """The gateway does not serve this model; no job that names it can succeed."""


class RedirectedError(GatewayError):
    """The gateway redirects to another URL; redirects are not followed with the key, so correct the base URL."""


class RateLimitError(GatewayError):
    """The gateway refused the request because there were too many."""


class OverloadedError(GatewayError):
    """The gateway or a proxy before it failed; the work may have been done and billed."""


class FilteredError(GatewayError):
    """The gateway responded without images: its safety filter removed all of them."""


class ProtocolError(ImagenError):
    """A response with status 200 whose body is invalid.

    Attributes:
        check: The name of the check that failed, such as ``"json"`` or ``"base64"``.
        offset: The byte of the body at which it failed, or None if it concerns no single byte.
        item: The entry of ``data``, counted from 0, or None.
        request_id: The gateway's id of the request, for its support, or None.
    """

    def __init__(
        self,
        check: str,
        message: str,
        *,
        offset: int | None = None,
        item: int | None = None,
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.check = check
        self.offset = offset
        self.item = item
        self.request_id = request_id

    def __str__(self) -> str:
        where = "" if self.offset is None else f" at byte {self.offset}"
        which = "" if self.item is None else f" in item {self.item}"
        return f"{self.check}: {self.message}{which}{where}"


class StoreError(ImagenError):
    """A store did not accept an image.

    Attributes:
        path: The file or folder concerned, or None.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class JournalError(ImagenError):
    """The journal cannot be read or written; a batch sends nothing without it."""


class JournalLockedError(JournalError):
    """Another run uses this folder."""


class LimitReachedError(ImagenError):
    """A cap on images or money was reached; raise it and run again to continue."""


class OutageError(ImagenError):
    """The gateway does not respond, and the retry quota is used up; run again to continue."""
