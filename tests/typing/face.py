"""The public face as a user writes it. Nobody runs this: mypy checks that the types say what the docs say."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, assert_type

import aiohttp

from imagen_async import (
    CATALOG,
    Attempt,
    Batch,
    Caps,
    Catalog,
    Facts,
    FailureClass,
    GatewayError,
    Image,
    ImageName,
    ImagenClient,
    ImagenError,
    ImageRequest,
    InvalidRequestError,
    Kept,
    LocalStore,
    MemoryStore,
    Model,
    Outcome,
    ProtocolError,
    RetryPolicy,
    Sink,
    Status,
    Store,
    TransportError,
)


async def one_image() -> None:
    async with ImagenClient(max_concurrency=32) as client:
        assert_type(client, ImagenClient)
        result = await client.generate("A cute baby sea otter", n=2, aspect_ratio="16:9")
        assert_type(result, Outcome)
        assert_type(result.images, tuple[Image, ...])
        assert_type(result.images[0].data, bytes | None)
        assert_type(result.images[0].path, str | None)
        assert_type(result.images[0].details, Mapping[str, Any])
        result = await client.generate(ImageRequest("A red fox"), store=LocalStore("out", fsync=True))
        assert_type(await client.list_models(), tuple[str, ...])


async def many_images() -> None:
    def texts() -> Iterator[str]:
        yield "A red fox"

    async def requests() -> AsyncIterator[ImageRequest]:
        yield ImageRequest("A red fox", n=2)

    mixed: list[str | ImageRequest] = ["A red fox", ImageRequest("A blue whale")]
    async with ImagenClient() as client:
        for source in (texts(), ["a", "b"], mixed):
            async with client.stream(source, store=LocalStore("out"), ordered=False) as outcomes:
                async for outcome in outcomes:
                    assert_type(outcome, Outcome)
        async with client.stream(requests(), store=MemoryStore(), ordered=True) as outcomes:
            async for outcome in outcomes:
                assert_type(outcome.ok, bool)
                assert_type(outcome.status, Status)
                assert_type(outcome.request, ImageRequest)
                assert_type(outcome.error, ImagenError | None)
                assert_type(outcome.attempts, tuple[Attempt, ...])
        async with Batch(client, mixed, output="out") as batch:
            async for outcome in batch:
                assert_type(outcome, Outcome)


async def every_setting(session: aiohttp.ClientSession, connector: aiohttp.BaseConnector) -> None:
    catalog = CATALOG.extended(Model(id="mine", price_usd=0.01)).extended_from({"mine": {"max_n": 2}})
    assert_type(catalog, Catalog)
    ImagenClient(
        "sk-...",
        "https://gateway.example/v1",
        rpm=20,
        timeouts=30.0,
        retry=RetryPolicy(max_attempts=3),
        caps=Caps(max_pixels=2**24),
        catalog=catalog,
        send_response_format=False,
        session=session,
        connector=connector,
        proxy="http://proxy.example:3128",
        trace_configs=[aiohttp.TraceConfig()],
        headers={"X-Team": "art"},
    )


async def errors(client: ImagenClient) -> None:
    try:
        await client.generate("A red fox")
    except InvalidRequestError as error:
        assert_type(error.problems, tuple[str, ...])
    except TransportError as error:
        assert_type(error.sent, bool)
    except GatewayError as error:
        assert_type(error.status, int)
        assert_type(error.retry_after, float | None)
    except ProtocolError as error:
        assert_type(error.check, str)
    except ImagenError as error:
        assert_type(error.attempts, tuple[Attempt, ...])
        assert_type(error.attempts[0].failure, FailureClass)
        assert_type(error.message, str)


def requests_are_values() -> None:
    request = ImageRequest("A red fox", model="imagen-9", style="sketch", id="fox", extra={"seed": 7})
    assert_type(request.validate(), tuple[str, ...])
    assert_type(request.extra, Mapping[str, Any])
    request.n = 2  # type: ignore[misc] # frozen
    ImageRequest()  # type: ignore[call-arg] # a prompt is needed
    ImageRequest("A red fox", "imagen-9")  # type: ignore[call-arg] # fields are given by name
    ImageRequest("A red fox", n="2")  # type: ignore[arg-type] # a number


class CountingStore:
    """A store of the user's own."""

    def __init__(self) -> None:
        self.bytes = 0
        self.lock = threading.Lock()

    def open(self, name: ImageName, /) -> CountingSink:
        assert_type(name.id, str)
        return CountingSink(self)


class CountingSink:
    """Its sink."""

    def __init__(self, store: CountingStore) -> None:
        self.store = store

    def write(self, data: bytes | memoryview, /) -> None:
        with self.store.lock:
            self.store.bytes += len(data)

    def commit(self, facts: Facts, /) -> Kept:
        return Kept(path=f"{facts.width}x{facts.height}")

    def discard(self) -> None:
        pass


def a_store_of_one_s_own_fits() -> tuple[Store, Store, Store, Sink]:
    store = CountingStore()
    return store, LocalStore("out"), MemoryStore(), store.open(ImageName("fox", 0))
