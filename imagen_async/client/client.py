"""The client: one session, one pool of slots, and the three things one asks of a gateway.

It puts the rooms together and holds what they share. What goes over the wire, when to send and where images are kept
is decided in `wire`, `pacing` and `stores`.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import itertools
import json
import os
import random
import time
from typing import TYPE_CHECKING, Any, Self

import attrs

from imagen_async._secrets import Secret
from imagen_async.catalog import CATALOG, Catalog
from imagen_async.client.attempt import AttemptRunner
from imagen_async.client.job import AttemptRecorder, EncodedRequest, Job, Unrecorded
from imagen_async.client.retry import JobRunner
from imagen_async.client.snapshot import ClientSnapshot
from imagen_async.client.stop import JobStopped, StopScope, stops_everything
from imagen_async.client.stream import NoResult, Stream
from imagen_async.events import Listeners, Paused, Stopped, Throttled
from imagen_async.exceptions import ConfigurationError, ImagenError, InvalidRequestError, ProtocolError
from imagen_async.limiter.backoff import RetryPolicy
from imagen_async.limiter.limiter import Limiter, PaceState
from imagen_async.limiter.shared import SharedLimiter, shared_limiter
from imagen_async.outcome import Outcome, Status
from imagen_async.receiver.caps import Caps
from imagen_async.receiver.receiver import ReceiverContext
from imagen_async.receiver.spill import OverflowPolicy, Spill
from imagen_async.request import ImageRequest, check_request
from imagen_async.stores import MemoryStore, Store
from imagen_async.transport.proxy import read_proxy
from imagen_async.transport.timeouts import Timeouts
from imagen_async.transport.transport import Transport
from imagen_async.transport.url import gateway_url
from imagen_async.wire.errors import gateway_error
from imagen_async.wire.families.imagen import MODELS, encode_request, read_models

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    import aiohttp

    from imagen_async.events import Event
    from imagen_async.limiter.circuit import RetryQuota
    from imagen_async.limiter.pacer import Pacer

__all__ = ["DEFAULT_BASE_URL", "ImagenClient"]

DEFAULT_BASE_URL = "https://gateway.theturbo.ai/v1"

_MODELS_BODY = 4 * 2**20


class ImagenClient:
    """Generates images over one gateway with one key.

    The session opens with the first request. Use it as ``async with``, or `close` it.

    Args:
        api_key: The key; by default the environment's ``IMAGEN_API_KEY``.
        base_url: By default ``IMAGEN_BASE_URL``, or the documented gateway.
        max_concurrency: Most requests in flight. It begins with fewer and finds what the gateway takes; clients
            of one key in one event loop share what they find, and take turns.
        rpm: Most requests a minute, evenly spaced, or None.
        images_per_minute: Most images asked for in a minute, likewise, or None.
        timeouts: For each attempt.
        retry: When to try again, how often, and how long to wait.
        quota: What may be spent on trying again before something succeeds, by all clients of the key; the first one's
            counts.
        pacer: Another pace in place of ours, such as one that several processes share; clients that are given the same
            one take turns.
        callbacks: Called, in the event loop, with each `Event`; must not block.
        caps: What no answer may exceed.
        overflow: What becomes of images that were paid for and that their store does not take.
        catalog: What is known about models; see `Catalog.extended`.
        send_response_format: Whether to name ``b64_json`` in requests; some models refuse the field.
        max_reading: Most answers whose bodies are read at once, slow ones aside; bounds memory and spares the cache.
        writers: Threads that write images and wait for the disk; None: as many as the store says pay, or 4.
        allow_http: Allow the key to travel in the clear to a host that is not this machine.
        session: Your own aiohttp session; it stays yours to close.
        connector: Your own aiohttp connector, likewise.
        proxy: URL of a proxy.
        trace_configs: Your own aiohttp hooks.
        headers: Further headers for every request.
        clock: Gives monotonic seconds.
        wall_clock: Gives seconds since the epoch.
        sleep: Waits for some seconds.
        draw: Gives a random number, 0 to 1.

    Raises:
        ConfigurationError: There is no key, or the URL will not do.

    Example:
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
        timeouts: Timeouts | None = None,
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
        trace_configs: Sequence[aiohttp.TraceConfig] = (),
        headers: Mapping[str, str] | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        # Under their own names as well: a traceback with locals must not show what is, or may be, a secret.
        api_key = key = Secret(api_key or os.environ.get("IMAGEN_API_KEY", ""))
        base_url = Secret(base_url or os.environ.get("IMAGEN_BASE_URL") or DEFAULT_BASE_URL)
        proxy = None if proxy is None else Secret(proxy)
        headers = {Secret(name): Secret(text) for name, text in (headers or {}).items()}
        _check_key(key)
        url = gateway_url(base_url, key=key, allow_http=allow_http)
        _check_counts(max_concurrency=max_concurrency, max_reading=max_reading)
        if writers is not None:
            _check_counts(writers=writers)
        _check_rates(rpm=rpm, images_per_minute=images_per_minute)
        self.catalog = catalog
        self._send_response_format = send_response_format
        self._transport = Transport(
            url,
            key,
            timeouts=timeouts or Timeouts(),
            session=session,
            connector=connector,
            proxy=None if proxy is None else read_proxy(proxy, url, allow_http=allow_http),
            trace_configs=trace_configs,
            headers=headers,
        )
        self.retry = retry or RetryPolicy()
        self._wall_clock = wall_clock
        self._token = os.urandom(12).hex()
        self._numbers = itertools.count()
        self._receiving = ReceiverContext(
            caps=caps or Caps(),
            spill=Spill(overflow, clock=clock, sleep=sleep),
            max_reading=max_reading,
            writers=writers,
        )
        self._listeners = Listeners(callbacks)
        # The gateway counts by key: clients that use the same one keep one pace; so do those that share a pacer.
        shared = (str(url), hashlib.sha256(key.encode()).digest()) if pacer is None else id(pacer)
        make = functools.partial(SharedLimiter, pacer=pacer, quota=quota, clock=clock, sleep=sleep)
        self.limiter = Limiter(
            max_concurrency,
            rpm=rpm,
            images_per_minute=images_per_minute,
            shared=functools.partial(shared_limiter, (shared, clock, sleep), make),
            clock=clock,
            on_paused=self._paused,
            on_throttled=self._throttled,
        )
        policy = self.retry
        self._attempts = AttemptRunner(
            self._transport,
            self._receiving,
            self.limiter,
            max_elapsed=policy.max_elapsed,
            listeners=self._listeners,
            clock=clock,
            wall_clock=wall_clock,
        )
        self._jobs = JobRunner(self._attempts, self.limiter, policy=policy, clock=clock, sleep=sleep, draw=draw)

    def __repr__(self) -> str:
        if not hasattr(self, "limiter"):
            return "<ImagenClient without settings>"  # in the traceback of a refused setting
        return (
            f"<ImagenClient of {self._transport.base_url}, {self.limiter.in_flight} of {self.limiter.size} in flight>"
        )

    async def __aenter__(self) -> Self:
        await self._attempts.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the session, if it is ours, and end the writer threads."""
        self.limiter.close()
        try:
            await self._transport.close()
        finally:
            self._receiving.threads.close()

    async def generate(
        self, prompt: str | ImageRequest, /, *, store: Store | None = None, sha256: bool = False, **fields: Any
    ) -> Outcome:
        """Generate the images of one request.

        Args:
            prompt: The description of the image, or a whole request.
            store: Where the images go; by default into memory, as ``image.data``.
            sha256: Whether to make a digest of each image, which costs about as much as all else.
            **fields: Further fields of `ImageRequest`, if `prompt` is text.

        Returns:
            An outcome that is ``succeeded``, or ``partial`` if the safety filter took some images, or if some arrived
            whole and the others did not: then `Outcome.error` says why.

        Raises:
            InvalidRequestError: The request breaks the contract; nothing was sent.
            ConfigurationError: `store` is no store; likewise.
            TransportError: The network failed, on every attempt that was worth making.
            GatewayError: The gateway refused, or failed likewise; `FilteredError` if its safety filter took all images.
            ProtocolError: What the gateway sent cannot be used.
            StoreError: An image could not be kept.
        """
        request = _request(prompt, fields)
        job = self.job(request, store=_kept_in(store), sha256=sha256)
        try:
            outcome: Outcome | None = await self._jobs.run(job)
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
        """Generate the images of many requests, many at once.

        Args:
            requests: Prompts or requests, read lazily: never much faster than outcomes are taken.
            store: Where the images go; by default into memory.
            ordered: Whether outcomes come in the order of the requests, or as they are ready.
            sha256: Whether to make a digest of each image.

        Returns:
            An async iterator of outcomes, to be used inside ``async with``. A failed job is an outcome. Only what
            stops everything (bad key, no such model, an outage, disk) is raised, after what was in flight has been
            given out; what was read from `requests` and never sent has no outcome then.

        Raises:
            ConfigurationError: `requests` is a single one, or `store` is no store.
        """
        if isinstance(requests, str | ImageRequest):
            raise ConfigurationError("stream takes many requests, in an iterable; for one there is generate")
        where = _kept_in(store)
        stop = self.stop_scope()

        async def one(item: str | ImageRequest) -> Outcome:
            request = _request(item, {})
            try:
                job = self.job(request, store=where, stop=stop, sha256=sha256)
            except InvalidRequestError as error:
                return Outcome(request=request, status=Status.FAILED, error=error)
            try:
                outcome = await self._jobs.run(job)
            except JobStopped as stopped:
                if stopped.outcome is None:
                    raise NoResult from None
                return stopped.outcome
            if outcome.error is not None and stops_everything(outcome.error) and not outcome.images:
                raise outcome.error
            return outcome

        return Stream(one, requests, window=self.window, ordered=ordered, stop=stop)

    @property
    def pace(self) -> PaceState:
        """How fast may be sent at the moment: what the gateway's refusals have taught."""
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

    async def list_models(self) -> tuple[str, ...]:
        """Ask the gateway for its models: a test of the key that costs nothing.

        Returns:
            The ids, in the gateway's order.

        Raises:
            TransportError: The network failed.
            GatewayError: The gateway refused; `AuthenticationError` for a bad key.
            ProtocolError: The answer is no list of models.
        """
        await self._attempts.open()
        async with self._transport.get(MODELS) as answering:
            if answering.status != 200:  # noqa: PLR2004 - the contract's one good status
                # Without a name for the body, as in `exchange`.
                raise gateway_error(
                    answering.status, answering.headers, await answering.head(_MODELS_BODY), now=self._wall_clock()
                )
            ids = answering.mask.inside(_models_in(await answering.head(_MODELS_BODY)))
        if ids is None:
            raise ProtocolError("json", "the answer is no list of models")
        return ids

    def _paused(self, seconds: float) -> None:
        if self._listeners.callbacks:
            self._listeners.tell(Paused(at=self._wall_clock(), seconds=seconds))

    def _throttled(self) -> None:
        if self._listeners.callbacks:
            pacer = self.limiter.shared.pacer
            self._listeners.tell(Throttled(at=self._wall_clock(), limit=pacer.limit, rate=pacer.rate))

    # -- for `batch` ----------------------------------------------------------------------------------------------

    @property
    def window(self) -> int:
        """How many jobs are to be under way so that slots are used while some jobs back off."""
        return 2 * self.limiter.size

    def job(
        self,
        request: ImageRequest,
        *,
        store: Store,
        image_id: str | None = None,
        indices: Sequence[int] | None = None,
        recorder: AttemptRecorder | None = None,
        stop: StopScope | None = None,
        sha256: bool = False,
        in_doubt: int = 0,
        earlier_key: str | None = None,
    ) -> Job:
        """Validate a request and make a job of it.

        Args:
            request: What is asked.
            store: Where its images go.
            image_id: What its images are called.
            indices: Those of its images that are missing; by default all.
            recorder: Records every request that is sent.
            stop: Stops the job while it waits.
            sha256: Whether to make a digest of each image.
            in_doubt: Requests of earlier runs for it that are in doubt; they count against `RetryPolicy.on_ambiguous`.
            earlier_key: The ``Idempotency-Key`` of the last of them.

        Raises:
            InvalidRequestError: The request breaks the contract.
        """
        findings = check_request(request, self.catalog)
        if findings.problems:
            raise InvalidRequestError(findings.problems)
        return Job(
            request=request,
            encode=functools.partial(self._encode, request),
            store=store,
            image_id=image_id or request.id or self._name(),
            missing=tuple(range(request.n) if indices is None else indices),
            notes=findings.notes,
            recorder=recorder or Unrecorded(),
            stop=stop or self.stop_scope(),
            sha256=sha256,
            in_doubt=in_doubt,
            earlier_key=earlier_key,
        )

    def _encode(self, request: ImageRequest, images: int) -> EncodedRequest:
        if images != request.n:
            request = attrs.evolve(request, n=images)
        body = encode_request(request, send_response_format=self._send_response_format)
        return EncodedRequest.named(self._name(), body)

    def _name(self) -> str:
        """Return a name that nobody else has, without asking the system for randomness each time."""
        return f"{self._token}{next(self._numbers):08x}"

    def stop_scope(self) -> StopScope:
        """Return a scope whose jobs stop together; an event tells why."""
        scope = StopScope()
        if self._listeners.callbacks:
            scope.subscribe(lambda: self._stopped(scope))
        return scope

    def _stopped(self, scope: StopScope) -> None:
        if isinstance(scope.cause, ImagenError):
            self._listeners.tell(Stopped(at=self._wall_clock(), error=scope.cause))

    async def perform(self, job: Job) -> Outcome:
        """Bring a job to its outcome.

        Raises:
            ImagenError: Only an error that stops everything; any other error is an outcome.
            JobStopped: The job was stopped while it waited.
        """
        outcome = await self._jobs.run(job)
        if outcome.error is not None and stops_everything(outcome.error):
            raise outcome.error
        return outcome


def _kept_in(store: Store | None) -> Store:
    """Give the store that is meant, and refuse what is none: its first call would come when images are paid for.

    Raises:
        ConfigurationError: It is no store, or its `writers` is no number of threads.
    """
    # A store that counts its images may be empty, and so as good as false.
    if store is None:
        return MemoryStore()
    if isinstance(store, str | os.PathLike):
        raise ConfigurationError("store is the name of a folder; for images as files in it there is LocalStore")
    if isinstance(store, type) or not callable(getattr(store, "open", None)):
        kind = f"the class {store.__name__} itself" if isinstance(store, type) else f"an object of {type(store)!r}"
        raise ConfigurationError(f"store is {kind}, and no object with a method open, as LocalStore makes one")
    threads = getattr(store, "writers", 0)
    if not isinstance(threads, int) or threads < 0:
        raise ConfigurationError(f"the store's writers must be a number of threads, from 0 on, not {threads!r}")
    return store


def _request(prompt: str | ImageRequest, fields: Mapping[str, Any]) -> ImageRequest:
    if isinstance(prompt, ImageRequest):
        if fields:
            raise ConfigurationError(f"a whole request takes no further fields: {', '.join(sorted(fields))}")
        return prompt
    try:
        return ImageRequest(prompt, **fields)
    except TypeError:
        known = {"model", "n", "aspect_ratio", "output_format", "style", "id", "extra"}
        raise ConfigurationError(f"a request has no field {', '.join(sorted(set(fields) - known))}") from None


def _models_in(body: bytes) -> tuple[str, ...] | None:
    try:
        return read_models(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _check_key(key: Secret) -> None:
    if not key:
        raise ConfigurationError("there is no API key: set IMAGEN_API_KEY, or give api_key=")
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigurationError("the API key holds characters that no key has: check for white space or a line end")


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ConfigurationError(f"{name} must be at least 1, not {count}")


def _check_rates(**rates: float | None) -> None:
    for name, rate in rates.items():
        if rate is not None and not rate > 0:
            raise ConfigurationError(f"{name} must be above 0, not {rate}")
