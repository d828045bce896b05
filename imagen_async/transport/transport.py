"""Sends requests to one gateway through aiohttp.

The only module that spells out the key. It records whether a byte of a request has left, by our connector or by
aiohttp's trace hooks, because money depends on it.
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING

import aiohttp
from multidict import CIMultiDict

from imagen_async._secrets import Mask, Secret
from imagen_async._version import __version__
from imagen_async.exceptions import ConfigurationError, printable
from imagen_async.transport import aiohttp_internals
from imagen_async.transport.aiohttp_internals import LEAVING, Connector
from imagen_async.transport.errors import InFlight
from imagen_async.transport.proxy import environment_proxy
from imagen_async.transport.response import Response

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import SimpleNamespace

    from yarl import URL

    from imagen_async.transport.proxy import Proxy
    from imagen_async.transport.timeouts import Timeouts

__all__ = ["Response", "Transport"]

_NOT_IN_HEADERS = re.compile(r"[\r\n\0]")
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # gzip saves a quarter of base64 and costs five times all other work
    "Content-Type": "application/json",
    "User-Agent": f"imagen-async/{__version__}",
}
_READ = 2**20
"""Bytes of one read of a body: each read costs Python as much as decoding 100 KiB, and blocks the loop meanwhile."""
_KEEP_ALIVE = 5.0
"""Seconds that an idle connection is kept: a POST on one that the gateway has closed fails and must not be resent."""


class Transport:
    """An aiohttp session for one gateway; `open` it in each event loop that it serves.

    Args:
        base_url: Checked by `url.gateway_url`.
        key: The API key.
        timeouts: For each attempt.
        session: A session that the caller closes. The caller's limit on connections should not be lower than the
            requests in flight: the wait for one of its connections counts as connecting.
        connector: A connector that the caller closes.
        proxy: A proxy for all requests.
        trust_env: Whether to use the proxy that the environment names, if `proxy` is None.
        allow_http: Whether a proxy on another machine may read the key.
        trace_configs: The caller's own hooks.
        headers: Further headers for all requests.

    Attributes:
        internals: Whether the open session uses aiohttp's internals; otherwise only its documented interface.

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
        self.owns_session = session is None
        self.internals = False
        self.memory = bytearray(_READ)
        self._session = session
        self._connector = connector
        if proxy is None and trust_env:
            proxy = environment_proxy(base_url, allow_http=allow_http)
        self._proxy = proxy
        self.mask = Mask(key, *(proxy.secrets if proxy else ()))
        self._trace_configs = trace_configs
        # The caller's "user-agent" replaces ours, in whatever case it is written.
        self._headers = CIMultiDict(_HEADERS)
        self._headers.update({str(name): Secret(text) for name, text in _checked(headers or {}, self.mask).items()})
        if proxy is not None and base_url.scheme == "http":
            self._headers.update(proxy.headers)  # there is no CONNECT request to carry them
        self._headers["Authorization"] = Secret("Bearer " + key)
        # Only in a caller's session does aiohttp limit connecting: there no hook of ours reports the departure.
        self._client_timeout = aiohttp.ClientTimeout(
            total=None, connect=None if self.owns_session else timeouts.connect, sock_connect=None
        )
        self._urls: dict[str, URL] = {}
        self._opened_in: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def __repr__(self) -> str:
        return f"<Transport to {self.base_url}>"

    async def open(self) -> None:
        """Open the session for the running event loop, and close that of an earlier loop; a closed one stays closed."""
        if self._closed:
            return
        before, former = self._session, self._opened_in
        self._opened_in = asyncio.get_running_loop()
        self.internals = aiohttp_internals.usable()
        if before is not None and not self.owns_session:
            return
        traces = list(self._trace_configs)
        connector = self._connector
        if connector is not None:
            traces.insert(0, _tracing())
        elif self.internals:
            # The limiter bounds the requests in flight: a bound here would count as time to connect.
            connector = Connector(limit=0, keepalive_timeout=_KEEP_ALIVE)
        else:
            # Without the checks of `Connector` a kept connection may bring another request's response.
            connector = aiohttp.TCPConnector(limit=0, force_close=True)
            traces.insert(0, _tracing())
        self._session = aiohttp.ClientSession(
            connector=connector,
            connector_owner=self._connector is None,
            trace_configs=traces,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        if before is not None and former is not None:
            # The connections of an event loop that has ended are closed with it.
            await before.close() if former.is_closed() else before.detach()

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Response:
        """Return a POST, which ``async with`` sends; it is entered when the response's headers have arrived.

        Raises (on entering):
            TransportError: The request could not be sent, or no response arrived.
            ProtocolError: The response is not HTTP.
        """
        return Response(self, "POST", path, body, headers)

    def get(self, path: str) -> Response:
        """Return a GET; otherwise as `post`."""
        return Response(self, "GET", path, None, {})

    async def close(self) -> None:
        """Close the session unless it is the caller's; nothing can be sent afterwards."""
        self._closed = True
        session, self._session = self._session, None
        if session is not None and self.owns_session:
            await session.close()

    async def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], flight: InFlight
    ) -> aiohttp.ClientResponse:
        """Send one request; aiohttp's errors pass.

        Raises:
            ConfigurationError: The session is closed, or was never opened.
        """
        if (url := self._urls.get(path)) is None:
            url = self._urls[path] = self.base_url.joinpath(path.lstrip("/"))
        session = self._session
        if self._opened_in is None or session is None or session.closed:
            raise ConfigurationError("the client or its session is closed: nothing can be sent")
        # With each request: aiohttp gives a session's own headers, and with them the key, to a proxy as well.
        every = self._headers.copy()
        every.update(headers)
        leaving = LEAVING.set(flight.leave)
        try:
            return await session.request(
                method,
                url,
                data=body,
                headers=every,
                timeout=self._client_timeout,
                allow_redirects=False,
                raise_for_status=False,  # a caller's session may have set it
                proxy=self._proxy.url if self._proxy else None,
                proxy_headers=self._proxy.headers if self._proxy else None,
                trace_request_ctx=flight,
            )
        finally:
            LEAVING.reset(leaving)


def _tracing() -> aiohttp.TraceConfig:
    """Return hooks that report each departure of ours, for a connector that does not."""
    config = aiohttp.TraceConfig()

    async def headers_sent(_: object, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, InFlight):
            context.trace_request_ctx.leave()

    async def queued(_: object, context: SimpleNamespace, __: object) -> None:
        # The connector's own limit is not the gateway's fault.
        if isinstance(context.trace_request_ctx, InFlight):
            context.trace_request_ctx.deadline.restart("total")

    async def unqueued(_: object, context: SimpleNamespace, __: object) -> None:
        if isinstance(context.trace_request_ctx, InFlight):
            context.trace_request_ctx.deadline.restart("connect")

    config.on_request_headers_sent.append(headers_sent)
    config.on_connection_queued_start.append(queued)
    config.on_connection_queued_end.append(unqueued)
    return config


def _checked(headers: Mapping[str, str], mask: Mask) -> Mapping[str, str]:
    # aiohttp refuses such a header only after bytes may have left.
    named = (mask(name) for name, text in headers.items() if _NOT_IN_HEADERS.search(name + text))
    if bad := [printable(repr(name), 80) for name in named]:
        raise ConfigurationError(f"HTTP cannot carry line ends or NUL bytes in a header: {', '.join(bad)}")
    return headers
