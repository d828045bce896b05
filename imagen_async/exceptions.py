"""Everything this library raises, split by whose fault it is.

One tree, so that ``except ImagenError`` is always enough and a narrower clause says whom to talk to::

    ImagenError
    ├── UsageError (also ValueError)       yours: nothing was sent
    │   ├── InvalidRequestError            a request breaks the contract; every mistake is listed
    │   ├── InvalidInputError              rows of an input file do
    │   ├── ConfigurationError             key, URL, option or folder does not fit
    │   └── MissingExtraError              an optional dependency is not installed
    ├── TransportError                     the network's
    │   ├── ConnectError                   no byte of the request left
    │   ├── DisconnectedError              the connection broke after bytes left
    │   └── TimeoutExceededError           one of the time-outs ran out
    ├── GatewayError                       the gateway answered with an error
    │   ├── RejectedError                  400/404/413/422: this request will never work
    │   ├── AuthenticationError            401: the key is bad, expired or used up
    │   ├── PermissionDeniedError          403: address, model or quota not allowed
    │   ├── ModelNotFoundError             no channel for this model, under any status
    │   ├── RedirectedError                3xx: the gateway is elsewhere
    │   ├── RateLimitError                 429
    │   ├── OverloadedError                408 and 5xx
    │   └── FilteredError                  a 200 without images: the safety filter took them all
    ├── ProtocolError                      a 200 whose body breaks the contract: which check, at which byte
    ├── StoreError                         the disk's: an image could not be kept
    ├── JournalError                       the journal's
    │   └── JournalLockedError             another run holds the folder
    ├── LimitReachedError                  a cap on images or money that you set
    └── OutageError                        the gateway does not answer, and retries are used up

This module imports nothing of ours and holds no logic but the wording of messages.
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
    r"""Make foreign text harmless on a terminal and in a log line.

    Control characters (escape sequences, CR, LF), bidirectional overrides and lone surrogates become
    visible escapes, and what is longer than `limit` characters is cut with an ellipsis.

    Example:
        >>> printable("bad\x1b[31m\nnews")
        'bad\\x1b[31m\\nnews'
    """
    cut = text if len(text) <= limit else text[: limit - 1] + "…"
    if cut.isprintable():
        return cut
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in cut)


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


class ImagenError(Exception):
    """The root of the tree.

    Attributes:
        attempts: What was tried before this error surfaced, oldest first; empty if nothing was sent.
    """

    attempts: tuple[Attempt, ...] = ()

    def __init__(self, message: str) -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The error's own words, without the notes of its attempts."""
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
    """What you asked for cannot be done as asked; nothing was sent."""


class InvalidRequestError(UsageError):
    """A request breaks the contract.

    Attributes:
        problems: Every mistake in the request, one sentence each.
    """

    def __init__(self, problems: Iterable[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("the request is not valid: " + "; ".join(self.problems))


class InvalidInputError(UsageError):
    """Rows of an input hold bad values.

    Attributes:
        problems: ``(line, mistakes)`` of the first bad rows, in the order of the input; lines count from 1.
        total: How many rows are bad in all; may exceed ``len(problems)``.
    """

    def __init__(self, source: str, problems: Iterable[tuple[int, tuple[str, ...]]], total: int) -> None:
        self.source = source
        self.problems = tuple(problems)
        self.total = total
        rows = "".join(f"\n  line {line}: {'; '.join(mistakes)}" for line, mistakes in self.problems)
        left = total - len(self.problems)
        more = f"\n  … and {left} more" if left > 0 else ""
        noun = "row is" if total == 1 else "rows are"
        super().__init__(f"{source}: {total} {noun} not valid, nothing was sent for them{rows}{more}")


class ConfigurationError(UsageError):
    """A key, URL, option or folder does not fit."""


class MissingExtraError(UsageError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, extra: str) -> None:
        self.feature = feature
        self.extra = extra
        super().__init__(f"{feature} needs an extra: pip install 'imagen-async[{extra}]'")


class TransportError(ImagenError):
    """The network failed.

    Attributes:
        sent: Whether any byte of the request may have left; if it may, the request may have been billed.
        offset: How many bytes of the answer's body had come, or None if it had not begun.
    """

    offset: int | None = None

    def __init__(self, message: str, *, sent: bool, offset: int | None = None) -> None:
        super().__init__(message)
        self.sent = sent
        self.offset = offset

    def __str__(self) -> str:
        return self.message if self.offset is None else f"{self.message}, at byte {self.offset} of the answer"


class ConnectError(TransportError):
    """No connection could be made (DNS, refused, TLS, proxy): no byte of the request left."""

    def __init__(self, message: str) -> None:
        super().__init__(message, sent=False)


class DisconnectedError(TransportError):
    """The connection broke in mid-request."""


class TimeoutExceededError(TransportError):
    """A time-out ran out.

    Attributes:
        phase: ``"connect"``, ``"read"`` (to the headers, or between two reads) or ``"total"`` (the whole request).
        seconds: The limit that ran out.
    """

    def __init__(self, phase: str, seconds: float, *, sent: bool, offset: int | None = None) -> None:
        self.phase = phase
        self.seconds = seconds
        message = f"no answer in time: the {phase} time-out of {seconds:g} s ran out"
        super().__init__(message, sent=sent, offset=offset)


class GatewayError(ImagenError):
    """The gateway answered with an error.

    Attributes:
        status: The HTTP status.
        code: The gateway's own code, as text, or None.
        kind: The gateway's own error type, or None.
        param: The request field the gateway complains of, or None.
        request_id: What to quote to the gateway's support, or None.
        retry_after: Seconds that the gateway asked us to stay away, or None.
        should_retry: The gateway's explicit ``x-should-retry``, or None.
        support_codes: What Google's safety filter calls its reasons, as text.
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
    """The gateway will never accept this request: it is wrong, too large, or its prompt is blocked."""


class AuthenticationError(GatewayError):
    """The key is bad, expired or used up; no job can succeed with it."""


class PermissionDeniedError(GatewayError):
    """The address, the model or the quota is not allowed; no job can succeed until that changes."""


class ModelNotFoundError(GatewayError):
    """The gateway has no channel for this model; no job that names it can succeed."""


class RedirectedError(GatewayError):
    """The gateway sends us elsewhere, where neither the key nor a prompt is taken; the base URL has to be mended."""


class RateLimitError(GatewayError):
    """The gateway asks for fewer requests."""


class OverloadedError(GatewayError):
    """The gateway or something before it failed; the work may have been done and its answer lost."""


class FilteredError(GatewayError):
    """The gateway answered well but without images: its safety filter took all of them."""


class ProtocolError(ImagenError):
    """A 200 whose body breaks the contract.

    Attributes:
        check: The check that failed, a short fixed word such as ``"json"`` or ``"base64"``.
        offset: Where in the body, in bytes from its start, or None where no single byte is to blame.
        item: Which item of ``data``, counted from 0, or None.
        request_id: What to quote to the gateway's support, or None.
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
    """An image could not be kept.

    Attributes:
        path: The file or folder concerned, or None.
    """

    def __init__(self, message: str, *, path: str | None = None) -> None:
        super().__init__(message)
        self.path = path


class JournalError(ImagenError):
    """The journal cannot be read or written; nothing is sent without it."""


class JournalLockedError(JournalError):
    """Another run is using this folder."""


class LimitReachedError(ImagenError):
    """A cap on images or money was reached; raise it and run again to go on."""


class OutageError(ImagenError):
    """The gateway does not answer, and what was set aside for trying again is used up; run again to go on."""
