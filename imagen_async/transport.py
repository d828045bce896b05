"""HTTP, by aiohttp: one POST or GET out, one answer in, every failure as a typed error of ours.

The only module that touches aiohttp and the only one that spells out the key. It tells whether a byte of the request
left (aiohttp's trace hooks), because money depends on it. Time-outs are the gateway's: what we do with an answer
between two reads, and a disk that stalls meanwhile, counts in none. It knows no JSON, no image and no retry.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
import attrs
from multidict import CIMultiDict

from imagen_async._version import __version__
from imagen_async.exceptions import (
    ConfigurationError,
    ConnectError,
    DisconnectedError,
    ImagenError,
    ProtocolError,
    TimeoutExceededError,
    printable,
)
from imagen_async.secret import Mask, Secret

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from types import SimpleNamespace, TracebackType

    from yarl import URL

    from imagen_async.address import Proxy

__all__ = ["Answering", "Timeouts", "Transport"]

_T = TypeVar("_T")

_CREDENTIALS = re.compile(r"//[^/\s]*@")
_NOT_IN_HEADERS = re.compile(r"[\r\n\0]")
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # gzip saves a quarter of base64 and costs five times all other work
    "Content-Type": "application/json",
    "User-Agent": f"imagen-async/{__version__}",
}
_KEEP_ALIVE = 5.0
"""Seconds an idle connection is kept: a POST on one that the gateway has closed fails and must not be resent."""


@attrs.frozen(kw_only=True)
class Timeouts:
    """Seconds; None for no limit. The wait for a slot counts in none of them.

    Attributes:
        connect: To connect, TLS included.
        read: Between two reads; a generation may be silent for minutes.
        total: For one whole attempt, as far as it is the gateway that is waited for.
    """

    connect: float | None = 10.0
    read: float | None = 300.0
    total: float | None = 900.0


@attrs.define
class _Request:
    """What is known of one request while it is under way.

    Attributes:
        sent: Whether any byte of it may have left.
        traced: Whether we would know; in a session of the caller's we do not.
    """

    sent: bool = False
    traced: bool = True


class _Allowance:
    """Seconds that the gateway may still take, all waits for it together."""

    __slots__ = ("_left",)

    def __init__(self, seconds: float | None) -> None:
        self._left = seconds

    async def wait_for(self, gateway: Awaitable[_T]) -> _T:
        """Wait, and let it count.

        Raises:
            TimeoutError: The time is over.
        """
        if self._left is None:
            return await gateway
        now = asyncio.get_running_loop().time
        began = now()
        try:
            async with asyncio.timeout_at(began + self._left):
                return await gateway
        finally:
            self._left -= now() - began


class _MaskedHeaders(Mapping[str, str]):
    """Headers without the key; only those that somebody reads are searched for it."""

    def __init__(self, headers: Mapping[str, str], mask: Mask) -> None:
        self._headers = headers
        self._mask = mask

    def __getitem__(self, name: str) -> str:
        return self._mask(self._headers[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


class Answering:
    """An answer whose status and headers are in, and whose body is still to be read.

    Attributes:
        status: The HTTP status.
        headers: What they say, without the key.
        mask: Takes the key out of what the body says.
    """

    def __init__(
        self, response: aiohttp.ClientResponse, translated: _Translated, allowance: _Allowance, mask: Mask
    ) -> None:
        self.status = response.status
        self.headers: Mapping[str, str] = _MaskedHeaders(response.headers, mask)
        self.mask = mask
        self._response = response
        self._translated = translated
        self._allowance = allowance
        self._taken = 0
        # A body that came whole with its headers has given its connection back already.
        connection = response.connection
        self._wire: Any = connection.transport if connection is not None else None

    def read_at_once(self, size: int) -> None:
        """Let one read of the socket bring up to `size` bytes; where the event loop has no such setting, nothing.

        asyncio's own transports read 256 KiB at a time; a whole body in one or two reads spares most of what a body
        costs the event loop.
        """
        if isinstance(getattr(self._wire, "max_size", None), int):
            self._wire.max_size = size

    async def read(self) -> bytes:
        """Wait for the next bytes of the body, as they come; a slow reader slows the socket.

        Returns:
            The bytes, or none at the end of the body.

        Raises:
            TransportError: The connection broke or a time-out ran out.
        """
        content = self._response.content
        with self._translated:
            # Unlike readany, readchunk never joins what has piled up: no copy. It may give an empty chunk, too.
            while not (chunk := await self._chunk(content)) and not content.at_eof():
                pass
        self._taken += len(chunk)
        return chunk

    async def _chunk(self, content: aiohttp.StreamReader) -> bytes:
        reading = content.readchunk()
        # What is here already is not waited for, and a timer costs as much as the chunk.
        here = content.total_bytes > self._taken
        return (await reading if here else await self._allowance.wait_for(reading))[0]

    async def head(self, limit: int) -> bytes:
        """Read the first `limit` bytes of the body, or all if it is shorter; a failing body is as good as ended."""
        parts: list[bytes] = []
        left = limit
        try:
            while left > 0 and (chunk := await self.read()):
                parts.append(chunk[:left])
                left -= len(parts[-1])
        except ImagenError:
            pass  # the status has already said that it is an error; its text is a courtesy
        return b"".join(parts)


class Transport:
    """A lazy aiohttp session for one gateway.

    Args:
        base_url: Checked by `address.gateway_url`.
        key: The API key.
        timeouts: For each attempt.
        session: A session of the caller's, which stays the caller's to close.
        connector: A connector of the caller's, likewise.
        proxy: A proxy for all requests.
        trace_configs: The caller's own hooks.
        headers: Further headers for all requests.

    Raises:
        ConfigurationError: HTTP cannot carry one of the headers.
    """

    def __init__(
        self,
        base_url: URL,
        key: str,
        *,
        timeouts: Timeouts,
        session: aiohttp.ClientSession | None = None,
        connector: aiohttp.BaseConnector | None = None,
        proxy: Proxy | None = None,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.base_url = base_url
        self._key = Secret(key)
        self.timeouts = timeouts
        self._session = session
        self.owns_session = session is None
        self._connector = connector
        self._proxy = proxy
        self._mask = Mask(key, *(proxy.secrets if proxy else ()))
        self._trace_configs = trace_configs
        # The caller's "user-agent" takes the place of ours, however it is spelled, instead of standing beside it.
        self._headers = CIMultiDict(_HEADERS)
        self._headers.update({str(name): Secret(text) for name, text in _checked(headers or {}, self._mask).items()})
        # aiohttp's total would run on while the disk keeps us from reading.
        self._client_timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect, sock_read=timeouts.read)
        self._urls: dict[str, URL] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"<Transport to {self.base_url}>"

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> _Exchange:
        """Send `body` and give the answer as soon as its headers are in; to be used as ``async with``.

        Raises:
            TransportError: The request could not be sent or was not answered.
            ProtocolError: The answer is no HTTP.
        """
        return _Exchange(self, "POST", path, body, headers)

    def get(self, path: str) -> _Exchange:
        """Ask for `path`; otherwise as `post`."""
        return _Exchange(self, "GET", path, None, {})

    async def close(self) -> None:
        """Close the session if it is ours; nothing can be sent any more."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None and self.owns_session:
            await session.close()

    async def request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], request: _Request
    ) -> aiohttp.ClientResponse:
        """Send one request; aiohttp's errors come through as they are."""
        if (url := self._urls.get(path)) is None:
            url = self._urls[path] = self.base_url.joinpath(path.lstrip("/"))
        return await self._open().request(
            method,
            url,
            data=body,
            headers=self._all_headers(headers),
            timeout=self._client_timeout,
            allow_redirects=False,
            raise_for_status=False,  # a session of the caller's may say otherwise
            proxy=self._proxy.url if self._proxy else None,
            proxy_headers=self._proxy.headers if self._proxy else None,
            trace_request_ctx=request,
        )

    def translated(self, request: _Request) -> _Translated:
        """Make what turns aiohttp's errors on this request into our own."""
        return _Translated(request, self.timeouts, self._mask)

    def answering(self, response: aiohttp.ClientResponse, translated: _Translated, allowance: _Allowance) -> Answering:
        """Make an answer of aiohttp's."""
        return Answering(response, translated, allowance, self._mask)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed or (self._session is not None and self._session.closed):
            raise ConfigurationError("the client or its session is closed: nothing can be sent")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Slots bound what is in flight; a second bound in the connector would count as connect time.
                connector=self._connector or aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE),
                connector_owner=self._connector is None,
                trace_configs=[_tracing(), *self._trace_configs],
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    def _all_headers(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        every = self._headers.copy()
        if self._proxy is not None and self.base_url.scheme == "http":
            every.update(self._proxy.headers)  # there is no tunnel, whose own request would carry them
        every.update(headers)
        every["Authorization"] = Secret("Bearer " + self._key)
        return every


def _tracing() -> aiohttp.TraceConfig:
    """Note on each request of ours that its first bytes are about to leave."""
    config = aiohttp.TraceConfig()

    async def headers_sent(_: object, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, _Request):
            context.trace_request_ctx.sent = True

    config.on_request_headers_sent.append(headers_sent)
    return config


class _Exchange:
    """One request and its answer, as ``async with``."""

    def __init__(
        self, transport: Transport, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> None:
        self._transport = transport
        self._what = (method, path, body, headers)
        self._request = _Request(sent=not transport.owns_session, traced=transport.owns_session)
        self._translated = transport.translated(self._request)
        self._allowance = _Allowance(transport.timeouts.total)
        self._response: aiohttp.ClientResponse | None = None

    async def __aenter__(self) -> Answering:
        with self._translated:
            self._response = await self._allowance.wait_for(self._transport.request(*self._what, self._request))
        return self._transport.answering(self._response, self._translated, self._allowance)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if response is not None:
            # Gives the connection back if the body was read to its end, and closes it otherwise.
            response.close() if not response.content.at_eof() else response.release()
        self._translated.clean(error)


class _Translated:
    """Turns what aiohttp raises into our own errors, as ``with``.

    Nothing of aiohttp's error is left, not even as the context: a `ClientResponseError` holds the request's headers.
    """

    __slots__ = ("_mask", "_request", "_timeouts")

    def __init__(self, request: _Request, timeouts: Timeouts, mask: Mask) -> None:
        self._request = request
        self._timeouts = timeouts
        self._mask = mask

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.clean(error)
        if error is not None and (ours := _translation(error, self._request, self._timeouts)) is not None:
            _mask_words(ours, self._mask)
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
        if isinstance(error, ImagenError):
            _mask_words(error, self._mask)
            if error.__suppress_context__:
                error.__context__ = None
        if isinstance(error, ImagenError | asyncio.CancelledError) and error.__traceback__ is not None:
            error.__traceback__.tb_next = None


def _mask_words(error: ImagenError, mask: Mask) -> None:
    error.args = mask.inside(error.args)
    for name, value in vars(error).items():
        setattr(error, name, mask.inside(value))


def _translation(error: BaseException, request: _Request, timeouts: Timeouts) -> ImagenError | None:
    """Say what an error of aiohttp's means; None for one that is not aiohttp's."""
    if isinstance(error, ImagenError):
        return None
    return next((ours(error, request, timeouts) for kind, ours in _TRANSLATIONS if isinstance(error, kind)), None)


_TRANSLATIONS: tuple[
    tuple[type[BaseException] | tuple[type[BaseException], ...], Callable[[Any, _Request, Timeouts], ImagenError]], ...
] = (
    (
        aiohttp.ConnectionTimeoutError,
        lambda _, __, limits: TimeoutExceededError("connect", limits.connect or 0.0, sent=False),
    ),
    (
        aiohttp.SocketTimeoutError,
        lambda _, request, limits: TimeoutExceededError("read", limits.read or 0.0, sent=request.sent),
    ),
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
    (ValueError, lambda error, request, _: _unusable(error, sent=request.sent and request.traced)),
    (
        aiohttp.ClientPayloadError,
        lambda error, *_: DisconnectedError(f"the answer was cut off: {_words(error)}", sent=True),
    ),
    (
        aiohttp.ClientResponseError,
        lambda error, *_: ProtocolError("http", f"the answer is no HTTP: {printable(error.message, 200)}"),
    ),
    (
        TimeoutError,
        lambda _, request, limits: TimeoutExceededError("total", limits.total or 0.0, sent=request.sent),
    ),
    (
        (aiohttp.ClientError, OSError),
        lambda error, request, _: DisconnectedError(f"the connection broke: {_words(error)}", sent=request.sent),
    ),
)
"""What each of aiohttp's errors means; the first that fits counts."""


def _checked(headers: Mapping[str, str], mask: Mask) -> Mapping[str, str]:
    # Before anything is sent: what aiohttp says of it later comes when bytes may have left.
    named = (mask(name) for name, text in headers.items() if _NOT_IN_HEADERS.search(name + text))
    if bad := [printable(repr(name), 80) for name in named]:
        raise ConfigurationError(f"HTTP cannot carry line ends or NUL bytes in a header: {', '.join(bad)}")
    return headers


def _unusable(error: ValueError, *, sent: bool) -> ImagenError:
    """Say what a value that HTTP cannot carry means: it is one of the caller's settings, or one of the answer's."""
    if sent:
        return ProtocolError("http", f"the answer is no HTTP: {_words(error)}")
    return ConfigurationError(f"the request cannot be made: {_words(error)}")


def _words(error: Exception) -> str:
    # A proxy's URL may hold a user name and password.
    return printable(_CREDENTIALS.sub("//***@", f"{type(error).__name__}: {error}"), 300)
