"""The client: one session, one limiter, and the calls that generate images.

It puts the rooms together and holds what their parts share.
"""

from __future__ import annotations

import functools
import hashlib
import os
from typing import TYPE_CHECKING, Self

from imagen_async._log import LOG
from imagen_async._secrets import Secret
from imagen_async._validation import Number, check_kinds
from imagen_async.catalog import CATALOG, Catalog
from imagen_async.client.attempt import AttemptRunner
from imagen_async.client.job import Jobs
from imagen_async.client.retry import JobRunner
from imagen_async.client.runtime import Runtime
from imagen_async.client.snapshot import ClientSnapshot
from imagen_async.client.stop import JobStopped
from imagen_async.client.stream import Stream
from imagen_async.events import Listeners, Paused, Throttled
from imagen_async.exceptions import ConfigurationError
from imagen_async.limiter.backoff import RetryPolicy
from imagen_async.limiter.circuit import RetryQuota
from imagen_async.limiter.limiter import Limiter, PaceState
from imagen_async.limiter.shared import SharedLimiter, shared_limiter
from imagen_async.receiver.caps import Caps
from imagen_async.receiver.receiver import ReceiverContext
from imagen_async.receiver.spill import OverflowPolicy, Spill
from imagen_async.request import ImageRequest, request_of
from imagen_async.stores import MemoryStore, Store
from imagen_async.stores.store import checked_store
from imagen_async.transport.proxy import read_proxy
from imagen_async.transport.timeouts import Timeouts
from imagen_async.transport.transport import Transport
from imagen_async.transport.url import gateway_url
from imagen_async.wire.errors import gateway_error
from imagen_async.wire.families.imagen import MODELS, read_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Callable, Iterable, Mapping, Sequence
    from typing import Unpack

    import aiohttp

    from imagen_async.events import Event
    from imagen_async.limiter.pacer import Pacer
    from imagen_async.outcome import Outcome
    from imagen_async.request import RequestFields

__all__ = ["DEFAULT_BASE_URL", "ImagenClient"]

DEFAULT_BASE_URL = "https://gateway.theturbo.ai/v1"

_CLOSED = "the client is closed; create another one"
_MODELS_BODY = 4 * 2**20
_COUNT = Number(1, whole=True)
_RATE = Number(0, beyond=True, optional=True)


class ImagenClient:
    """Generates images over one gateway with one key.

    Use it as ``async with``, which opens the session. Without that the session opens with the first request, and you
    must call `close`. A closed client cannot be used again.

    Args:
        api_key: The key; by default the environment variable ``IMAGEN_API_KEY``.
        base_url: The base URL; by default the environment variable ``IMAGEN_BASE_URL``, or the documented gateway.
        max_concurrency: Most requests in flight. The client starts with fewer and finds out how many the gateway
            accepts; clients of one key in one event loop share what they learn, and send in turn.
        rpm: Most requests in a minute, evenly spaced, or None.
        images_per_minute: Most requested images in a minute, evenly spaced, or None.
        timeouts: `Timeouts` of each attempt, or a number: seconds for each attempt as a whole.
        retry: When to retry, how often, and how long to wait.
        quota: The retries that are allowed before a request succeeds, for all clients of the key; the first client
            of a key sets it.
        pacer: Replaces the controller that finds the gateway's limit, for instance by one that several processes
            share; clients with the same pacer send in turn.
        callbacks: Functions that the event loop calls with each `Event`; they must not block.
        caps: Upper limits on what a response may bring.
        overflow: What happens to paid images that their store does not accept.
        catalog: The known models; see `Catalog.extended`.
        send_response_format: Whether requests contain ``response_format``; some models refuse the field.
        max_reading: Most responses whose bodies are read concurrently, slow ones excluded; this bounds memory.
        writers: Writer threads; None for as many as the store asks for.
        allow_http: Whether the key may be sent over http to another machine.
        session: An aiohttp session of yours, which stays open.
        connector: An aiohttp connector of yours, which stays open.
        proxy: URL of a proxy.
        trust_env: Whether to use the proxy that the environment names (``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``,
            ``NO_PROXY``), if `proxy` is None.
        trace_configs: aiohttp hooks of yours.
        headers: Further headers for every request.

    Raises:
        ConfigurationError: There is no key, or a setting is invalid.

    Example:
        >>> import asyncio
        >>> from imagen_async.sandbox import SandboxGateway
        >>> async def main():
        ...     async with SandboxGateway(images="tiny") as gateway:
        ...         async with ImagenClient(gateway.api_key, gateway.base_url) as client:
        ...             result = await client.generate("A cute baby sea otter", n=2)
        ...     return result.status, len(result.images)
        >>> asyncio.run(main())
        (<Status.SUCCEEDED: 'succeeded'>, 2)
    """

    def __init__(
        self,
        api_key: str | None = None,
        base_url: str | None = None,
        *,
        max_concurrency: int = 32,
        rpm: float | None = None,
        images_per_minute: float | None = None,
        timeouts: Timeouts | float | None = None,
        retry: RetryPolicy | None = None,
        quota: RetryQuota | None = None,
        pacer: Pacer | None = None,
        callbacks: Sequence[Callable[[Event], object]] = (),
        caps: Caps | None = None,
        overflow: OverflowPolicy | None = None,
        catalog: Catalog = CATALOG,
        send_response_format: bool = True,
        max_reading: int = 2,
        writers: int | None = None,
        allow_http: bool = False,
        session: aiohttp.ClientSession | None = None,
        connector: aiohttp.BaseConnector | None = None,
        proxy: str | None = None,
        trust_env: bool = False,
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        headers: Mapping[str, str] | None = None,
        _runtime: Runtime | None = None,
    ) -> None:
        # Under their own names as well: a traceback with locals must not show what is, or may be, a secret.
        api_key = key = Secret(api_key or os.environ.get("IMAGEN_API_KEY", ""))
        base_url = Secret(base_url or os.environ.get("IMAGEN_BASE_URL") or DEFAULT_BASE_URL)
        proxy = None if proxy is None else Secret(proxy)
        headers = {Secret(name): Secret(text) for name, text in (headers or {}).items()}
        _check_key(key)
        url = gateway_url(base_url, key=key, allow_http=allow_http)
        _COUNT.check("max_concurrency", max_concurrency)
        _COUNT.check("max_reading", max_reading)
        Number(1, whole=True, optional=True).check("writers", writers)
        _RATE.check("rpm", rpm)
        _RATE.check("images_per_minute", images_per_minute)
        check_kinds(
            retry=(retry, RetryPolicy),
            quota=(quota, RetryQuota),
            caps=(caps, Caps),
            overflow=(overflow, OverflowPolicy),
            catalog=(catalog, Catalog),
        )
        if not isinstance(timeouts, Timeouts):
            timeouts = Timeouts() if timeouts is None else Timeouts(read=None, total=timeouts)
        self.runtime = runtime = _runtime or Runtime()
        self.catalog = catalog
        self.retry = retry or RetryPolicy()
        self.window = 2 * max_concurrency
        """Jobs of one stream: more than permits, so that permits are used while some jobs back off."""
        self._closed = False
        self._listeners = Listeners(callbacks)
        self._transport = Transport(
            url,
            key,
            timeouts=timeouts,
            session=session,
            connector=connector,
            proxy=None if proxy is None else read_proxy(proxy, url, allow_http=allow_http),
            trust_env=trust_env,
            allow_http=allow_http,
            trace_configs=trace_configs,
            headers=headers,
        )
        self._receiving = ReceiverContext(
            caps=caps or Caps(),
            spill=Spill(overflow, clock=runtime.clock, sleep=runtime.sleep),
            max_reading=max_reading,
            writers=writers,
        )
        # The gateway counts by key: clients of one key share a limiter; so do clients with the same pacer.
        shared = (str(url), hashlib.sha256(key.encode()).digest()) if pacer is None else id(pacer)
        make = functools.partial(SharedLimiter, pacer=pacer, quota=quota, clock=runtime.clock, sleep=runtime.sleep)
        self.limiter = Limiter(
            max_concurrency,
            rpm=rpm,
            images_per_minute=images_per_minute,
            shared=functools.partial(shared_limiter, (shared, runtime.clock, runtime.sleep), make),
            clock=runtime.clock,
            on_paused=self._paused,
            on_throttled=self._throttled,
        )
        self._attempts = AttemptRunner(
            self._transport,
            self._receiving,
            self.limiter,
            max_elapsed=self.retry.max_elapsed,
            listeners=self._listeners,
            clock=runtime.clock,
            wall_clock=runtime.wall_clock,
        )
        runner = JobRunner(
            self._attempts, self.limiter, policy=self.retry, clock=runtime.clock, sleep=runtime.sleep, draw=runtime.draw
        )
        self.jobs = Jobs(
            runner.run,
            catalog,
            self._listeners,
            send_response_format=send_response_format,
            wall_clock=runtime.wall_clock,
        )

    def __repr__(self) -> str:
        if not hasattr(self, "limiter"):
            return "<ImagenClient without settings>"  # in the traceback of a refused setting
        state = "closed" if self._closed else f"{self.limiter.in_flight} of {self.limiter.size} in flight"
        return f"<ImagenClient of {self._transport.base_url}, {state}>"

    async def __aenter__(self) -> Self:
        await self.open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def open(self) -> None:
        """Open the session for the running event loop, and join the other clients of the key; entering does so.

        Raises:
            ConfigurationError: The client or its session is closed.
        """
        if self._closed:
            raise ConfigurationError(_CLOSED)
        await self._attempts.open()

    async def close(self) -> None:
        """Close the session, unless it is yours, and end the writer threads; jobs that are still running fail."""
        self._closed = True
        self.limiter.close()
        try:
            await self._transport.close()
        finally:
            self._receiving.threads.close()

    aclose = close

    async def generate(
        self,
        prompt: str | ImageRequest,
        /,
        *,
        store: Store | None = None,
        sha256: bool = False,
        **fields: Unpack[RequestFields],
    ) -> Outcome:
        """Generate the images of one request.

        Args:
            prompt: The description of the image, or a whole request.
            store: Where the images go; by default into memory.
            sha256: Whether to compute a digest of each image, which takes about as long as all other work.
            **fields: Further fields of `ImageRequest`, if `prompt` is text.

        Returns:
            An outcome that is ``succeeded``, or ``partial`` if the safety filter removed some images or some did not
            arrive; `Outcome.error` says why they did not.

        Raises:
            InvalidRequestError: The request breaks rules of the API; nothing was sent.
            ConfigurationError: A field is unknown, `store` is not a store, or the client is closed; nothing was sent.
            TransportError: The network failed in every attempt.
            GatewayError: The gateway refused the request or failed; `FilteredError` if its safety filter removed all
                images.
            ProtocolError: A response was invalid.
            StoreError: An image could not be kept.
            OutageError: The gateway does not respond, and the retry quota is used up.
        """
        if self._closed:
            raise ConfigurationError(_CLOSED)
        store = MemoryStore() if store is None else checked_store(store)
        job = self.jobs.job(request_of(prompt, fields), store=store, sha256=sha256)
        try:
            outcome: Outcome | None = await self.jobs.run(job)
        except JobStopped as stopped:
            outcome = stopped.outcome
        if outcome is None or (outcome.error is not None and not outcome.images):
            error = job.stop.cause if outcome is None else outcome.error
            assert error is not None, "a job of its own stops only for an error"  # noqa: S101 - see `StopScope`
            raise error
        return outcome

    def stream(
        self,
        requests: Iterable[str | ImageRequest] | AsyncIterable[str | ImageRequest],
        /,
        *,
        store: Store | None = None,
        ordered: bool = False,
        sha256: bool = False,
    ) -> Stream[str | ImageRequest, Outcome]:
        """Generate the images of many requests concurrently.

        Args:
            requests: Prompts or requests, read lazily: never much faster than outcomes are consumed.
            store: Where the images go; by default into memory.
            ordered: Whether outcomes come in the order of the requests, or as they are ready.
            sha256: Whether to compute a digest of each image.

        Returns:
            An async iterator of outcomes, to be entered with ``async with``. A failed job is an outcome. What stops
            everything (an invalid key, an unknown model, an outage, a full disk) is raised after the outcomes of the
            jobs in flight; requests that were read and not sent have no outcome then.

        Raises:
            ConfigurationError: `requests` is a single request, `store` is not a store, or the client is closed.

        Example:
            >>> import asyncio
            >>> from imagen_async.sandbox import SandboxGateway
            >>> async def main():
            ...     async with SandboxGateway(images="tiny") as gateway:
            ...         async with ImagenClient(gateway.api_key, gateway.base_url) as client:
            ...             async with client.stream(["A red fox", "A blue whale"], ordered=True) as outcomes:
            ...                 return [(outcome.request.prompt, outcome.ok) async for outcome in outcomes]
            >>> asyncio.run(main())
            [('A red fox', True), ('A blue whale', True)]
        """
        if self._closed:
            raise ConfigurationError(_CLOSED)
        if isinstance(requests, str | ImageRequest):
            raise ConfigurationError("stream needs an iterable of requests; for one request use generate")
        store, stop = MemoryStore() if store is None else checked_store(store), self.jobs.stop_scope()
        one = functools.partial(self.jobs.outcome, store=store, stop=stop, sha256=sha256)
        return Stream(one, requests, window=self.window, ordered=ordered, stop=stop)

    async def list_models(self) -> tuple[str, ...]:
        """Return the ids of the gateway's models, in its order; this tests the key and costs nothing.

        Raises:
            ConfigurationError: The client is closed.
            TransportError: The network failed.
            GatewayError: The gateway refused; `AuthenticationError` if the key is invalid.
            ProtocolError: The response is not a list of models.
        """
        await self.open()
        async with self._transport.get(MODELS) as response:
            if response.status != 200:  # noqa: PLR2004 - the contract's one good status
                # The body gets no name here, which a traceback with locals would show: some gateways repeat the key.
                raise gateway_error(
                    response.status,
                    response.headers,
                    await response.head(_MODELS_BODY),
                    now=self.runtime.wall_clock(),
                )
            return response.mask.inside(read_models(await response.head(_MODELS_BODY)))

    @property
    def pace(self) -> PaceState:
        """The current limits, learned from 429 responses."""
        return self.limiter.pace

    def snapshot(self) -> ClientSnapshot:
        """Return what the client holds at this moment, for debugging and for tests.

        Example:
            >>> ImagenClient("sk-0123456789", "http://localhost/v1").snapshot().in_flight
            0
        """
        receiving = self._receiving
        return ClientSnapshot(
            **self.limiter.snapshot(),
            reading=receiving.gate.inside,
            backlog_bytes=receiving.gate.backlog.size,
            spilled_bytes=receiving.spill.reserved,
        )

    def _paused(self, seconds: float) -> None:
        LOG.info("the gateway asked for a pause of %.1f s", seconds)
        if self._listeners.callbacks:
            self._listeners.tell(Paused(at=self.runtime.wall_clock(), seconds=seconds))

    def _throttled(self) -> None:
        if self._listeners.callbacks:
            pacer = self.limiter.shared.pacer
            self._listeners.tell(Throttled(at=self.runtime.wall_clock(), limit=pacer.limit, rate=pacer.rate))


def _check_key(key: Secret) -> None:
    if not key:
        raise ConfigurationError("there is no API key: set IMAGEN_API_KEY, or pass api_key=")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("the API key contains invalid characters: check it for white space or line ends")
