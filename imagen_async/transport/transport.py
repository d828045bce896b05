"""HTTP, by aiohttp: one POST or GET out, one answer in, every failure as a typed error of ours.

The only module that sends and reads, and the only one that spells out the key. It tells whether a byte of the request
left (by our connector; by aiohttp's trace hooks with one of the caller's), because money depends on it. Time-outs are
the gateway's: what we do with an answer between two reads, and a disk that stalls meanwhile, counts in none. It knows
no JSON, no image and no retry.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import aiohttp
from multidict import CIMultiDict

from imagen_async._secrets import Mask, Secret
from imagen_async._version import __version__
from imagen_async.exceptions import ConfigurationError, ImagenError, printable
from imagen_async.transport.body import Take, borrowed
from imagen_async.transport.connection import LEAVING, Connector
from imagen_async.transport.errors import Translated, UnderWay
from imagen_async.transport.proxy import environment_proxy
from imagen_async.transport.timeouts import Timeouts
from imagen_async.transport.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence
    from types import SimpleNamespace, TracebackType

    from yarl import URL

    from imagen_async.transport.proxy import Proxy

__all__ = ["Response", "Timeouts", "Transport"]

_T = TypeVar("_T")

_NOT_IN_HEADERS = re.compile(r"[\r\n\0]")
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # gzip saves a quarter of base64 and costs five times all other work
    "Content-Type": "application/json",
    "User-Agent": f"imagen-async/{__version__}",
}
_UNDONE = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
"""Encodings that aiohttp undoes, the last two if it finds a library for them, or says itself that it cannot."""
_GOOD = 200
_READ = 2**20
"""Bytes of one read of a body: each costs Python as much as decoding 100 KiB, and the loop stands still meanwhile."""
_KEEP_ALIVE = 5.0
"""Seconds an idle connection is kept: a POST on one that the gateway has closed fails and must not be resent."""


class _Allowance:
    """Seconds that the gateway may still take, all waits for it together.

    Args:
        seconds: How many; None for no limit.
        watch: Ends the waits that take too long.
    """

    __slots__ = ("_left", "now", "watch")

    def __init__(self, seconds: float | None, watch: Watch) -> None:
        self._left = math.inf if seconds is None else seconds
        self.watch = watch
        self.now = watch.loop.time

    async def wait_for(
        self, gateway: Awaitable[_T], *, patience: float | None = None, sent_at: Callable[[], float] | None = None
    ) -> _T:
        """Wait, and let it count.

        Args:
            gateway: What is waited for.
            patience: Seconds that this one wait may take; None for no limit.
            sent_at: Says since when they count, by the loop's clock; infinity for not yet. By default from now on.

        Raises:
            TimeoutError: The time is over.
            aiohttp.SocketTimeoutError: The patience is.
        """
        began = self.now()
        patience = math.inf if patience is None else patience
        wait = _Wait(self.end(began), patience, sent_at or (lambda: began))
        try:
            async with asyncio.timeout(None) as wait.limit:
                self.watch.begin(wait)
                return await gateway
        except TimeoutError:
            if wait.impatient and wait.limit.expired():
                raise aiohttp.SocketTimeoutError("nothing came for too long") from None
            raise
        finally:
            self.watch.end(wait)
            self.spend(self.now() - began)

    def end(self, now: float) -> float:
        """Return when it is used up, if the gateway is waited for from now on."""
        return now + self._left

    def spend(self, seconds: float) -> None:
        """Count what the gateway has taken."""
        self._left -= seconds


class _Wait:
    """One wait, with the two limits that it has."""

    __slots__ = ("_last", "_patience", "_sent_at", "impatient", "limit")

    limit: asyncio.Timeout

    def __init__(self, last: float, patience: float, sent_at: Callable[[], float]) -> None:
        self._last = last
        self._patience = patience
        self._sent_at = sent_at
        self.impatient = False

    def look(self, now: float) -> float:
        """End the wait if it is time; return when to look again."""
        given_up = self._sent_at() + self._patience
        if now >= min(self._last, given_up):
            self.impatient = given_up < self._last
            self.limit.reschedule(now)
            return math.inf
        return min(self._last, given_up, now + self._patience)


class _MaskedHeaders(Mapping[str, str]):
    """Headers without the key; only those that somebody reads are searched for it."""

    def __init__(self, headers: Mapping[str, str], mask: Mask) -> None:
        self._headers = headers
        self._mask = mask

    def __getitem__(self, name: str) -> str:
        return self._mask(self._headers[name])

    def get(self, name: str, default: Any = None, /) -> Any:
        """Mapping's own would raise and catch an error for each header that is not there."""
        text = self._headers.get(name)
        return default if text is None else self._mask(text)

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)


class Response:
    """An answer whose status and headers are in, and whose body is still to be read.

    Attributes:
        status: The HTTP status.
        headers: What they say, without the key.
        mask: Takes the key out of what the body says.
    """

    def __init__(
        self,
        response: aiohttp.ClientResponse,
        request: UnderWay,
        translated: Translated,
        allowance: _Allowance,
        memory: bytearray,
    ) -> None:
        self.status = response.status
        self.mask = translated.mask
        self.headers: Mapping[str, str] = _MaskedHeaders(response.headers, self.mask)
        self._content = response.content
        self._request = request
        self._translated = translated
        self._allowance = allowance
        self._patience = translated.timeouts.read
        self._taken = 0
        self._broken: BaseException | None = None
        # A body that came whole with its headers has given its connection back already.
        connection = response.connection
        self._wire: Any = connection.transport if connection is not None else None
        protocol = connection.protocol if connection is not None else None
        self._closed = protocol.closed if protocol is not None else None
        if self._closed is not None:
            self._closed.remove_done_callback(_heard)
            self._closed.add_done_callback(_heard)
            self._closed.add_done_callback(self._lost)
        self._straight = (
            borrowed(response, memory, patience=translated.timeouts.read, watch=allowance.watch)
            if response.status == _GOOD
            else None
        )

    def leave(self) -> None:
        """Have no more to do with the connection: the next request may have it."""
        if self._closed is not None:
            self._closed.remove_done_callback(self._lost)

    def _lost(self, _: object) -> None:
        """Wake a reader whom aiohttp forgets: after a chunk that is none it tells of no end and no error any more."""
        if not self._content.is_eof() and self._content.exception() is None:
            encoding = self.headers.get("Content-Encoding", "").strip().lower()
            packed = encoding in _UNDONE - {"", "identity"}
            told = "the connection closed on bytes that are no HTTP"
            # The end of a deflated body that is cut off is one of the things that it tells nobody.
            told = f"Can not decode content-encoding: {encoding}" if packed else told
            self._content.set_exception(aiohttp.ClientPayloadError(told))

    @property
    def packed(self) -> str | None:
        """The encoding that the body is still in, by its header, because nothing here undoes it; or None."""
        encoding = self.headers.get("Content-Encoding", "").strip()
        return None if encoding.lower() in _UNDONE else printable(encoding, 80)

    @property
    def here(self) -> bool:
        """Whether all of the body has come already."""
        return self._content.is_eof()

    def hold(self) -> None:
        """Let the rest of the body wait with the system: it will be a while until it is read."""
        if self._straight is not None:
            self._straight.hold()

    async def pump(self, take: Take) -> bool:
        """Give the body to `take`, chunk by chunk as it comes, until that wants a rest; a rest slows the socket.

        Args:
            take: Called in the event loop.

        Returns:
            Whether there may be more to come.

        Raises:
            TransportError: The connection broke or a time-out ran out.
            Exception: Whatever `take` raised.
        """
        if self._straight is None:
            if chunk := self._whole() or await self._read():
                take(chunk, len(chunk))
            return bool(chunk) and not self._content.at_eof()
        began = self._allowance.now()
        with self._translated:
            try:
                return await self._straight.pump(take, until=self._allowance.end(began))
            finally:
                self._allowance.spend(self._allowance.now() - began)
                self._request.taken = self._straight.taken

    async def read(self) -> bytes:
        """Wait for the next bytes of the body, as they come.

        Returns:
            The bytes, or none at the end of the body.

        Raises:
            TransportError: As `pump`.
        """
        chunks: list[bytes] = []

        def take(chunk: bytes | bytearray, size: int) -> bool:
            chunks.append(bytes(chunk[:size]))
            return True

        await self.pump(take)
        return chunks[0] if chunks else b""

    def _whole(self) -> bytes:
        """Take a body that has come whole; nothing is waited for."""
        if not self._content.is_eof() or self._content.exception() is not None:
            return b""
        chunk = self._content.read_nowait(-1)
        self._count(chunk)
        return chunk

    async def _read(self) -> bytes:
        with self._translated:
            try:
                # Unlike readany, readchunk never joins what has piled up: no copy. It may give an empty chunk, too.
                while not (chunk := await self._chunk()) and not self._content.at_eof():
                    pass
            except Exception as error:
                chunk = self._left(error)
                if not chunk:
                    raise
        self._count(chunk)
        return chunk

    def _count(self, chunk: bytes) -> None:
        self._taken += len(chunk)
        self._request.taken = self._taken

    async def _chunk(self) -> bytes:
        if self._broken is not None:
            raise self._broken
        reading = self._content.readchunk()
        # What is here already is not waited for, and a timer costs as much as the chunk.
        here = self._content.total_bytes > self._taken or self._content.is_eof()
        waiting = reading if here else self._allowance.wait_for(reading, patience=self._patience)
        return (await waiting)[0]

    def _left(self, error: Exception) -> bytes:
        """Take what had come before the body broke: it is paid for, and aiohttp gives it to nobody any more."""
        if self._broken is not None or self._content.total_bytes == self._taken:
            return b""
        self._broken = error
        self._content.set_exception(None)  # type: ignore[arg-type] # the only way past it; takes an error or none
        return self._content.read_nowait()

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
        trust_env: Whether to use the proxy that the environment names, if `proxy` is None.
        allow_http: Whether a proxy on another machine may read the key.
        trace_configs: The caller's own hooks.
        headers: Further headers for all requests.

    Raises:
        ConfigurationError: HTTP cannot carry one of the headers, or the environment's proxy is not allowed.
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
        trust_env: bool = False,
        allow_http: bool = False,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.base_url = base_url
        self.timeouts = timeouts
        self._session = session
        self.owns_session = session is None
        self._connector = connector
        if proxy is None and trust_env:
            proxy = environment_proxy(base_url, allow_http=allow_http)
        self._proxy = proxy
        self.mask = Mask(key, *(proxy.secrets if proxy else ()))
        self._trace_configs = trace_configs
        # The caller's "user-agent" takes the place of ours, however it is spelled, instead of standing beside it.
        self._headers = CIMultiDict(_HEADERS)
        self._headers.update({str(name): Secret(text) for name, text in _checked(headers or {}, self.mask).items()})
        if proxy is not None and base_url.scheme == "http":
            self._headers.update(proxy.headers)  # there is no tunnel, whose own request would carry them
        self._headers["Authorization"] = Secret("Bearer " + key)
        # aiohttp's total would run on while the disk keeps us from reading, and its sock_read is a timer for each read.
        self._client_timeout = aiohttp.ClientTimeout(total=None, sock_connect=timeouts.connect)
        self._urls: dict[str, URL] = {}
        self.memory = bytearray(_READ)
        self._watch: Watch | None = None
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

    def watch(self) -> Watch:
        """Give what ends the waits in the running event loop that take too long."""
        loop = asyncio.get_running_loop()
        if self._watch is None or self._watch.loop is not loop:
            self._watch = Watch(loop)
        return self._watch

    async def close(self) -> None:
        """Close the session if it is ours; nothing can be sent any more."""
        self._closed = True
        if self._watch is not None:
            self._watch.close()
        session, self._session = self._session, None
        if session is not None and self.owns_session:
            await session.close()

    async def request(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], request: UnderWay
    ) -> aiohttp.ClientResponse:
        """Send one request; aiohttp's errors come through as they are."""
        if (url := self._urls.get(path)) is None:
            url = self._urls[path] = self.base_url.joinpath(path.lstrip("/"))
        leaving = LEAVING.set(request.leave)
        try:
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
        finally:
            LEAVING.reset(leaving)

    def _open(self) -> aiohttp.ClientSession:
        if self._closed or (self._session is not None and self._session.closed):
            raise ConfigurationError("the client or its session is closed: nothing can be sent")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                # Limiter bound what is in flight; a second bound in the connector would count as connect time.
                connector=self._connector or Connector(limit=0, keepalive_timeout=_KEEP_ALIVE),
                connector_owner=self._connector is None,
                # Our own connector tells when a request leaves; hooks cost each request some thirty calls.
                trace_configs=[*([] if self._connector is None else [_tracing()]), *self._trace_configs],
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    def _all_headers(self, headers: Mapping[str, str]) -> CIMultiDict[str]:
        # With each request: a session's own headers, and with them the key, aiohttp gives to a proxy as well.
        every = self._headers.copy()
        every.update(headers)
        return every


def _tracing() -> aiohttp.TraceConfig:
    """Note on each request of ours that its first bytes are about to leave."""
    config = aiohttp.TraceConfig()

    async def headers_sent(_: object, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, UnderWay):
            context.trace_request_ctx.leave()

    config.on_request_headers_sent.append(headers_sent)
    return config


def _heard(closed: asyncio.Future[None]) -> None:
    """Take note of a connection's end, which asyncio reports as an error if nobody does."""
    if not closed.cancelled():
        closed.exception()


class _Exchange:
    """One request and its answer, as ``async with``."""

    def __init__(
        self, transport: Transport, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> None:
        self._transport = transport
        self._what = (method, path, body, headers)
        watch = transport.watch()
        self._request = UnderWay(watch.loop.time, sent=not transport.owns_session, traced=transport.owns_session)
        self._translated = Translated(self._request, transport.timeouts, transport.mask)
        self._allowance = _Allowance(transport.timeouts.total, watch)
        self._response: aiohttp.ClientResponse | None = None
        self._answering: Response | None = None

    async def __aenter__(self) -> Response:
        with self._translated:
            self._response = await self._allowance.wait_for(
                self._transport.request(*self._what, self._request),
                patience=self._transport.timeouts.read,
                sent_at=self._request.sent_at if self._request.traced else None,
            )
        self._request.taken = 0
        self._answering = Response(
            self._response, self._request, self._translated, self._allowance, self._transport.memory
        )
        return self._answering

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        response, self._response = self._response, None
        if response is not None and self._answering is not None:
            self._answering.leave()
            # Gives the connection back if the body was read to its end, and closes it otherwise.
            response.close() if not response.content.at_eof() else response.release()
        self._translated.clean(error)


def _checked(headers: Mapping[str, str], mask: Mask) -> Mapping[str, str]:
    # Before anything is sent: what aiohttp says of it later comes when bytes may have left.
    named = (mask(name) for name, text in headers.items() if _NOT_IN_HEADERS.search(name + text))
    if bad := [printable(repr(name), 80) for name in named]:
        raise ConfigurationError(f"HTTP cannot carry line ends or NUL bytes in a header: {', '.join(bad)}")
    return headers
