"""Translates aiohttp's errors: each becomes one typed error of ours, with the position in the response.

Two facts about every failure decide over money: whether a byte of the request may have left, and how much of the
response had arrived.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs

from imagen_async._secrets import Mask
from imagen_async.exceptions import (
    ConfigurationError,
    ConnectError,
    DisconnectedError,
    ImagenError,
    ProtocolError,
    TimeoutExceededError,
    printable,
)
from imagen_async.transport.timeouts import Deadline, DeadlineExceeded, Timeouts

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["InFlight"]


@attrs.define
class InFlight:
    """One request in flight; translates aiohttp's errors by how far the request has come.

    No error of aiohttp's is kept, not even as the context: a `ClientResponseError` holds the request's headers.

    Attributes:
        timeouts: The settings, for the messages.
        mask: Removes the key from messages.
        deadline: Enforces the timeouts.
        sent: Whether a byte of the request may have left.
        traced: Whether a departure is reported; false in a caller's session.
        received: Bytes of the response's body that were read; None before its headers.
    """

    timeouts: Timeouts
    mask: Mask
    deadline: Deadline
    sent: bool = False
    traced: bool = True
    received: int | None = None

    def leave(self) -> None:
        """Record that the first bytes are about to leave, from when on the read timeout runs."""
        self.sent = True
        self.deadline.restart("read")

    def translate(self, error: BaseException) -> None:
        """Raise our error for one of aiohttp's; return for any other, which the caller raises again.

        Raises:
            TransportError: The request could not be sent, or its response broke.
            ProtocolError: The response is not HTTP, or its encoding is invalid.
            ConfigurationError: aiohttp refuses a setting.
        """
        self.clean(error)
        if (ours := _translation(error, self)) is not None:
            _mask_words(ours, self.mask)
            try:
                raise ours
            finally:
                # This frame and its arguments hold aiohttp's error.
                ours.__context__ = ours.__traceback__ = None

    def clean(self, error: BaseException) -> None:
        """Remove the key, and all frames but the outermost, from an error that leaves the transport.

        Some gateways repeat the key that they refuse, so it may be in a message and in the locals of code that reads a
        response.
        """
        if isinstance(error, ImagenError):
            _mask_words(error, self.mask)
            if error.__suppress_context__:
                error.__context__ = None
        if isinstance(error, ImagenError | asyncio.CancelledError) and error.__traceback__ is not None:
            error.__traceback__.tb_next = None


def _mask_words(error: ImagenError, mask: Mask) -> None:
    error.args = mask.inside(error.args)
    for name, value in vars(error).items():
        setattr(error, name, mask.inside(value))


def _translation(error: BaseException, request: InFlight) -> ImagenError | None:
    """Return our error for one of aiohttp's; None for any other."""
    if isinstance(error, ImagenError):
        return None
    return next((ours(error, request) for kind, ours in _TRANSLATIONS if isinstance(error, kind)), None)


def _timed_out(phase: str, request: InFlight) -> ImagenError:
    # Nothing leaves before the connection is there, in a caller's session too.
    sent = request.sent and phase != "connect"
    return TimeoutExceededError(
        phase, getattr(request.timeouts, phase) or 0.0, sent=sent, offset=request.received if sent else None
    )


def _cut_off(error: aiohttp.ClientPayloadError, request: InFlight) -> ImagenError:
    return _undecodable(str(error), request) or DisconnectedError(
        f"the response was cut off: {_words(error)}", sent=True, offset=request.received
    )


def _invalid_http(error: aiohttp.ClientResponseError, request: InFlight) -> ImagenError:
    words = printable(" ".join(error.message.split()), 200)
    return _undecodable(error.message, request) or ProtocolError(
        "http", f"invalid HTTP response: {words}", offset=request.received
    )


def _undecodable(words: str, request: InFlight) -> ProtocolError | None:
    """Return an error for a body that its Content-Encoding does not describe, or that aiohttp cannot decode."""
    if (found := _ENCODING.search(words)) is None:
        return None
    why = f": {found['missing']}" if found["missing"] else "; it is not encoded so, or is damaged or cut off"
    message = f"the body cannot be decoded by its header Content-Encoding: {found['name'] or 'deflate'}{why}"
    return ProtocolError("content-encoding", printable(message, 300), offset=request.received)


def _disconnected(error: aiohttp.ServerDisconnectedError, request: InFlight) -> ImagenError:
    # aiohttp's own message may consist of the headers that had arrived.
    where = "before its response" if isinstance(error.message, str) else "within the headers of its response"
    return DisconnectedError(f"the gateway closed the connection {where}", sent=request.sent)


def _unusable(error: ValueError, request: InFlight) -> ImagenError:
    """Return an error for a value that HTTP cannot carry: one of the caller's settings, or part of the response."""
    if request.sent and request.traced:
        return ProtocolError("http", f"invalid HTTP response: {_words(error)}", offset=request.received)
    return ConfigurationError(f"the request cannot be made: {_words(error)}")


_TRANSLATIONS: tuple[
    tuple[type[BaseException] | tuple[type[BaseException], ...], Callable[[Any, InFlight], ImagenError]], ...
] = (
    (DeadlineExceeded, lambda error, request: _timed_out(error.phase, request)),
    (aiohttp.ConnectionTimeoutError, lambda _, request: _timed_out("connect", request)),
    (aiohttp.SocketTimeoutError, lambda _, request: _timed_out("read", request)),
    (
        (
            aiohttp.ClientConnectorError,
            aiohttp.ClientHttpProxyError,
            aiohttp.ServerFingerprintMismatch,
            aiohttp.ClientConnectorCertificateError,
        ),
        lambda error, _: ConnectError(f"cannot connect to the gateway: {_words(error)}"),
    ),
    (aiohttp.InvalidURL, lambda *_: ConfigurationError("the gateway's URL cannot be used")),
    (ValueError, _unusable),
    (aiohttp.ClientPayloadError, _cut_off),
    (aiohttp.ClientResponseError, _invalid_http),
    (TimeoutError, lambda _, request: _timed_out("total", request)),
    (aiohttp.ServerDisconnectedError, _disconnected),
    (
        (aiohttp.ClientError, OSError),
        lambda error, request: DisconnectedError(
            f"the connection broke: {_words(error)}", sent=request.sent, offset=request.received
        ),
    ),
)
"""Our error for each of aiohttp's; the first match counts."""

_CREDENTIALS = re.compile(r"//[^/\s]*@")
_ENCODING = re.compile(
    r"Can not decode content-encoding: (?:\w+ \()?(?P<name>\w+)\)?(?:\. (?P<missing>.+))?|(?:\A|message=')deflate\b"
)
"""aiohttp's wording for a body that it cannot decode; for a deflated body that is cut off the wording is one word."""
_INNER = re.compile(r"<\w+: \d+, message=(['\"])(.*)\1>", re.DOTALL)
"""aiohttp's wording for the reason of a broken body: an HTTP error with a status that no server sent."""


def _words(error: Exception) -> str:
    words = _INNER.sub(r"\2", f"{type(error).__name__}: {error}").removesuffix(".")
    # A proxy's URL may contain a user name and a password.
    return printable(_CREDENTIALS.sub("//***@", " ".join(words.split())), 300)
