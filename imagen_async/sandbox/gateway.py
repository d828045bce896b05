"""Starts and stops the embedded gateway: a real HTTP server on a real socket.

Adds routes and request ids, and shuts down promptly without leaving a task, socket or thread. `service` decides what a
request receives.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Any, Self

import attrs
from aiohttp import web

from imagen_async.exceptions import ConfigurationError, printable
from imagen_async.sandbox.contract import Refusal, refuse_key
from imagen_async.sandbox.ledger import Ledger
from imagen_async.sandbox.pictures import PictureShop, require_pillow
from imagen_async.sandbox.service import LONGEST_BODY, REQUEST_ID, Service, new_request_id, refused
from imagen_async.sandbox.settings import SandboxArguments, SandboxOptions, method_keywords_of

__all__ = ["SandboxGateway"]

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class SandboxGateway:
    """A gateway on this machine that implements the contract and shows faults on demand.

    Args:
        options: The options; by default those of `SandboxOptions()`.
        **keywords: Fields of `SandboxOptions` that override `options`.

    Attributes:
        options: Its options.
        ledger: Every request, what it was billed and what it received; readable after the gateway has closed.

    Raises:
        ConfigurationError: An option is invalid.

    Example:
        >>> from imagen_async import ImagenClient
        >>> async def main():
        ...     async with SandboxGateway(images="tiny", faults={"429": 0.1}) as gateway:
        ...         async with ImagenClient(gateway.api_key, gateway.base_url) as client:
        ...             await client.generate("A cute baby sea otter", n=2)
        ...     return gateway.ledger.billed_images
        >>> asyncio.run(main())
        2
    """

    @method_keywords_of(SandboxArguments)
    def __init__(self, options: SandboxOptions | None = None, **keywords: Any) -> None:
        try:
            self.options = attrs.evolve(options or SandboxOptions(), **keywords)
        except ConfigurationError:
            raise
        except (TypeError, ValueError, AttributeError) as error:
            raise ConfigurationError(f"invalid sandbox options: {error}") from None
        self.ledger = Ledger()
        self._running: _Running | None = None
        self._last_count = (0, 0)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        where = self.base_url if self._running else "not running"
        return f"<SandboxGateway {where}, {self.requests} requests, {self.in_flight} in flight>"

    @property
    def base_url(self) -> str:
        """URL of the running gateway, such as ``http://127.0.0.1:54321/v1``.

        Raises:
            ConfigurationError: The gateway is not running.
        """
        if self._running is None:
            raise ConfigurationError("the sandbox is not running: use it as `async with SandboxGateway(...)`")
        return self._running.base_url

    @property
    def api_key(self) -> str:
        """The only key that is accepted."""
        return self.options.api_key

    @property
    def requests(self) -> int:
        """Number of requests to the generations endpoint, including refused ones."""
        return self._running.service.requests if self._running else self._last_count[0]

    @property
    def in_flight(self) -> int:
        """Number of requests in flight."""
        return len(self._running.handlers) if self._running else 0

    @property
    def most_concurrent(self) -> int:
        """Highest number of requests that were processed concurrently."""
        return self._running.service.limits.most_inside if self._running else self._last_count[1]

    async def start(self) -> None:
        """Start listening; ``async with`` calls this.

        Raises:
            ConfigurationError: The address or the ledger cannot be opened, or the gateway is already running.
            MissingExtraError: Pillow is not installed.
        """
        if self._running is not None:
            raise ConfigurationError("the sandbox is already running: stop it, or make another SandboxGateway")
        require_pillow()
        self.ledger = Ledger(self.options.ledger)
        running = _Running(self.options, self.ledger)
        try:
            await running.listen()
        except BaseException:
            await running.aclose()
            self.ledger.close()
            raise
        self._running = running

    async def settled(self) -> None:
        """Wait until no request is in flight, after which the ledger's `sent` is final.

        A client can have the last byte of a response a moment before the gateway records it.
        """
        while self._running is not None and self._running.handlers:
            await asyncio.wait(set(self._running.handlers))

    async def aclose(self) -> None:
        """Stop immediately: requests in flight are aborted; the ledger has what they were billed."""
        if self._running is None:
            return
        self._last_count = (self.requests, self.most_concurrent)
        running, self._running = self._running, None
        try:
            await running.aclose()
        finally:
            self.ledger.close()

    close = aclose


class _Running:
    """A gateway while it listens."""

    def __init__(self, options: SandboxOptions, ledger: Ledger) -> None:
        self._options = options
        self._pictures = PictureShop(options.images)
        self.service = Service(options, ledger, self._pictures)
        self.handlers: dict[asyncio.Task[object], web.Request] = {}
        self.base_url = ""
        app = web.Application(client_max_size=LONGEST_BODY, middlewares=[self._tracked])
        app.router.add_post("/v1/images/generations", self.service.handle)
        app.router.add_get("/v1/models", self._models)
        app.on_response_prepare.append(_add_headers)
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        self._site: web.TCPSite | None = None

    async def listen(self) -> None:
        await self._runner.setup()
        site = web.TCPSite(self._runner, self._options.host, self._options.port)
        try:
            await site.start()
        except (OSError, OverflowError) as error:
            where = f"{self._options.host}:{self._options.port}"
            raise ConfigurationError(
                f"the sandbox cannot listen on {printable(where)}: {printable(str(error))}; choose another host or port"
            ) from None
        self._site = site
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{_reachable(host)}:{port}/v1"

    async def aclose(self) -> None:
        if self._site is not None:
            await self._site.stop()
        aborted = dict(self.handlers)
        for task, request in aborted.items():
            task.cancel()
            if request.transport is not None:
                # Also closes the socket of a peer that does not read.
                request.transport.abort()
        if aborted:
            await asyncio.wait(aborted)
        await self._runner.cleanup()
        await self._pictures.aclose()

    @web.middleware
    async def _tracked(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        request[REQUEST_ID] = new_request_id()
        task = asyncio.current_task()
        if task is None:  # pragma: no cover - every handler runs in a task
            raise RuntimeError
        self.handlers[task] = request
        try:
            return await handler(request)
        except web.HTTPException as error:
            return refused(_unknown_url(request, error.status))
        finally:
            del self.handlers[task]

    async def _models(self, request: web.Request) -> web.Response:
        refusal = refuse_key(request.headers.get("Authorization"), self._options.api_key)
        if refusal is not None:
            return refused(refusal)
        models = [{"id": model, "object": "model", "owned_by": "sandbox"} for model in self._options.models]
        return web.json_response({"object": "list", "data": models})


async def _add_headers(request: web.Request, response: web.StreamResponse) -> None:
    response.headers["x-request-id"] = request[REQUEST_ID]
    response.headers["Server"] = "imagen-async-sandbox"


def _unknown_url(request: web.Request, status: int) -> Refusal:
    text = f"Invalid URL ({request.method} {printable(request.path, 80)})"
    return Refusal(status=status, message=text, code="unknown_url")


def _reachable(address: str) -> str:
    """Return the host part of a URL with which this machine reaches a listening address."""
    ip = ipaddress.ip_address(address)
    if ip.is_unspecified:
        ip = ipaddress.ip_address("127.0.0.1" if ip.version == 4 else "::1")  # noqa: PLR2004 - IP version 4
    return f"[{ip}]" if ip.version == 6 else str(ip)  # noqa: PLR2004 - IP version 6
