"""What aiohttp's errors mean: each becomes one typed error of ours, with the place in the answer at which it struck.

Two things are asked of every failure, because money and people depend on them: whether a byte of the request may have
left, and how far the answer had come. It opens no connection and reads no byte.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs

from imagen_async.exceptions import (
    ConfigurationError,
    ConnectError,
    DisconnectedError,
    ImagenError,
    ProtocolError,
    TimeoutExceededError,
    printable,
)

if TYPE_CHECKING:
    from types import TracebackType

    from imagen_async._secrets import Mask
    from imagen_async.transport.timeouts import Timeouts

__all__ = ["Translated", "UnderWay"]


@attrs.define
class UnderWay:
    """What is known of one request while it is under way.

    Attributes:
        clock: Gives the event loop's time.
        sent: Whether any byte of it may have left.
        traced: Whether we would know; in a session of the caller's we do not.
        taken: Bytes of the answer's body that were read; None before its headers are in.
    """

    clock: Callable[[], float]
    sent: bool = False
    traced: bool = True
    taken: int | None = None
    _left_at: float = attrs.field(default=math.inf, init=False)

    def leave(self) -> None:
        """Note that the first bytes are about to leave."""
        self.sent = True
        self._left_at = self.clock()

    def sent_at(self) -> float:
        """Return when they left, by the event loop's clock; infinity if it is not known."""
        return self._left_at


class Translated:
    """Gate what aiohttp raises into our own errors, as ``with``.

    Nothing of aiohttp's error is left, not even as the context: a `ClientResponseError` holds the request's headers.

    Args:
        request: The request that it is raised for.
        timeouts: Its limits.
        mask: Takes the key out of what is told.
    """

    __slots__ = ("_request", "mask", "timeouts")

    def __init__(self, request: UnderWay, timeouts: Timeouts, mask: Mask) -> None:
        self._request = request
        self.timeouts = timeouts
        self.mask = mask

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clean(error)
        if error is not None and (ours := _translation(error, self._request, self.timeouts)) is not None:
            _mask_words(ours, self.mask)
            try:
                raise ours
            finally:
                # This frame, and what it was called for, hold aiohttp's error.
                ours.__context__ = ours.__traceback__ = None

    def clean(self, error: BaseException | None) -> None:
        """Take the key, and all frames but the outermost, out of an error that leaves the network.

        Some gateways repeat the key that they refuse, so it may be in an error's words, and in the locals of whatever
        reads an answer.
        """
        if error is None:
            return
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


def _translation(error: BaseException, request: UnderWay, timeouts: Timeouts) -> ImagenError | None:
    """Say what an error of aiohttp's means; None for one that is not aiohttp's."""
    if isinstance(error, ImagenError):
        return None
    return next((ours(error, request, timeouts) for kind, ours in _TRANSLATIONS if isinstance(error, kind)), None)


def _timed_out(phase: str, seconds: float | None, request: UnderWay) -> ImagenError:
    return TimeoutExceededError(phase, seconds or 0.0, sent=request.sent, offset=request.taken)


def _cut_off(error: aiohttp.ClientPayloadError, request: UnderWay, _: Timeouts) -> ImagenError:
    return _undecodable(str(error), request) or DisconnectedError(
        f"the answer was cut off: {_words(error)}", sent=True, offset=request.taken
    )


def _no_http(error: aiohttp.ClientResponseError, request: UnderWay, _: Timeouts) -> ImagenError:
    said = printable(" ".join(error.message.split()), 200)
    return _undecodable(error.message, request) or ProtocolError(
        "http", f"the answer is no HTTP: {said}", offset=request.taken
    )


def _undecodable(said: str, request: UnderWay) -> ProtocolError | None:
    """Name the header by which a body is packed in a way that it is not, or that nothing here unpacks."""
    if (found := _ENCODING.search(said)) is None:
        return None
    why = f": {found['missing']}" if found["missing"] else ", or is damaged or cut off"
    told = f"the body cannot be unpacked as its header Content-Encoding: {found['name'] or 'deflate'} says{why}"
    return ProtocolError("content-encoding", printable(told, 300), offset=request.taken)


def _hung_up(error: aiohttp.ServerDisconnectedError, request: UnderWay, _: Timeouts) -> ImagenError:
    # aiohttp's own message may be the headers that had come, whole.
    when = "before its answer" if isinstance(error.message, str) else "within the headers of its answer"
    return DisconnectedError(f"the gateway hung up {when}", sent=request.sent)


def _unusable(error: ValueError, request: UnderWay, _: Timeouts) -> ImagenError:
    """Say what a value that HTTP cannot carry means: it is one of the caller's settings, or one of the answer's."""
    if request.sent and request.traced:
        return ProtocolError("http", f"the answer is no HTTP: {_words(error)}", offset=request.taken)
    return ConfigurationError(f"the request cannot be made: {_words(error)}")


_TRANSLATIONS: tuple[
    tuple[type[BaseException] | tuple[type[BaseException], ...], Callable[[Any, UnderWay, Timeouts], ImagenError]], ...
] = (
    (
        aiohttp.ConnectionTimeoutError,
        lambda _, __, limits: TimeoutExceededError("connect", limits.connect or 0.0, sent=False),
    ),
    (aiohttp.SocketTimeoutError, lambda _, request, limits: _timed_out("read", limits.read, request)),
    (
        (
            aiohttp.ClientConnectorError,
            aiohttp.ClientHttpProxyError,
            aiohttp.ServerFingerprintMismatch,
            aiohttp.ClientConnectorCertificateError,
        ),
        lambda error, *_: ConnectError(f"cannot connect to the gateway: {_words(error)}"),
    ),
    (aiohttp.InvalidURL, lambda *_: ConfigurationError("the gateway's URL cannot be used")),
    (ValueError, _unusable),
    (aiohttp.ClientPayloadError, _cut_off),
    (aiohttp.ClientResponseError, _no_http),
    (TimeoutError, lambda _, request, limits: _timed_out("total", limits.total, request)),
    (aiohttp.ServerDisconnectedError, _hung_up),
    (
        (aiohttp.ClientError, OSError),
        lambda error, request, _: DisconnectedError(
            f"the connection broke: {_words(error)}", sent=request.sent, offset=request.taken
        ),
    ),
)
"""What each of aiohttp's errors means; the first that fits counts."""

_CREDENTIALS = re.compile(r"//[^/\s]*@")
_ENCODING = re.compile(
    r"Can not decode content-encoding: (?:\w+ \()?(?P<name>\w+)\)?(?:\. (?P<missing>.+))?|(?:\A|message=')deflate\b"
)
"""How aiohttp tells of a body that it cannot unpack; of a deflated one that is cut off it says one word."""
_INNER = re.compile(r"<\w+: \d+, message=(['\"])(.*)\1>", re.DOTALL)
"""How aiohttp writes the reason of a broken body: as an error of HTTP, with a status that nobody sent."""


def _words(error: Exception) -> str:
    said = _INNER.sub(r"\2", f"{type(error).__name__}: {error}").removesuffix(".")
    # A proxy's URL may hold a user name and password.
    return printable(_CREDENTIALS.sub("//***@", " ".join(said.split())), 300)
