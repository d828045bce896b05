"""The client as a user writes it. Not run: mypy and pyright check that the types are what the documentation says."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true, reportUnusedVariable=false

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any, Unpack, assert_type

import aiohttp

from imagen_async import (
    CATALOG,
    Attempt,
    Batch,
    Caps,
    Catalog,
    ClientSnapshot,
    FailureClass,
    GatewayError,
    Image,
    ImagenClient,
    ImagenError,
    ImageRequest,
    InvalidRequestError,
    LocalStore,
    MemoryStore,
    Model,
    Outcome,
    OverflowPolicy,
    PaceState,
    Progress,
    ProtocolError,
    RequestFields,
    RetryPolicy,
    RetryQuota,
    Row,
    Status,
    Stream,
    Summary,
    TimeoutExceededError,
    Timeouts,
    TransportError,
    open_source,
)


async def the_readme() -> None:
    async with ImagenClient(max_concurrency=32) as client:
        assert_type(client, ImagenClient)
        result = await client.generate("A cute baby sea otter", n=2, aspect_ratio="16:9")
        print(len(result.images[0].read()), "bytes")

        requests = (ImageRequest(f"A red fox, study {number}") for number in range(8))
        async with client.stream(requests, store=LocalStore("foxes")) as outcomes:
            async for outcome in outcomes:
                print(outcome.status, [image.path for image in outcome.images])

        async with Batch(client, ["A heron", "A kite"], output="birds") as batch:
            async for outcome in batch:
                print(outcome.status, outcome.request.prompt)
            print(batch.summary)


async def one_image(client: ImagenClient) -> None:
    result = await client.generate("A red fox", style="sketch", output_format="jpeg", id="fox", extra={"seed": 7})
    assert_type(result, Outcome)
    assert_type(result.images, tuple[Image, ...])
    image = result.images[0]
    assert_type(image.read(), bytes)
    assert_type(image.save("fox.jpg"), Path)
    assert_type(image.save(Path("fox.jpg")), Path)
    assert_type(image.data, bytes | None)
    assert_type(image.path, str | None)
    assert_type(image.details, Mapping[str, Any])
    await client.generate(ImageRequest("A red fox"), store=LocalStore("out", fsync=True), sha256=True)
    await client.generate("A red fox", aspect_ratio="21:9", style="a style of tomorrow")
    assert_type(await client.list_models(), tuple[str, ...])
    assert_type(client.pace, PaceState)
    assert_type(client.snapshot(), ClientSnapshot)


async def wrong_fields(client: ImagenClient) -> None:
    await client.generate("A red fox", aspect_ration="16:9")  # type: ignore[call-arg]
    await client.generate("A red fox", n="2")  # type: ignore[arg-type]
    await client.generate("A red fox", store="foxes")  # type: ignore[arg-type]
    await client.generate(prompt="A red fox")  # type: ignore[call-arg]


async def a_wrapper(client: ImagenClient, prompt: str, **fields: Unpack[RequestFields]) -> bytes:
    fields.setdefault("n", 1)
    return (await client.generate(prompt, **fields)).images[0].read()


async def many_images(client: ImagenClient) -> None:
    def texts() -> Iterator[str]:
        yield "A red fox"

    async def requests() -> AsyncIterator[ImageRequest]:
        yield ImageRequest("A red fox", n=2)

    mixed: list[str | ImageRequest] = ["A red fox", ImageRequest("A blue whale")]
    for source in (texts(), ["a", "b"], mixed):
        async with client.stream(source, store=LocalStore("out"), ordered=False) as outcomes:
            async for outcome in outcomes:
                assert_type(outcome, Outcome)
    stream = client.stream(requests(), store=MemoryStore(), ordered=True)
    assert_type(stream, Stream[str | ImageRequest, Outcome])
    async with stream as outcomes:
        async for outcome in outcomes:
            assert_type(outcome.ok, bool)
            assert_type(outcome.status, Status)
            assert_type(outcome.request, ImageRequest)
            assert_type(outcome.error, ImagenError | None)
            assert_type(outcome.attempts, tuple[Attempt, ...])
        outcomes.drain()


async def a_batch(client: ImagenClient) -> None:
    rows: list[str | ImageRequest | Row] = ["A red fox", ImageRequest("A blue whale")]
    async with Batch(client, rows, output=Path("out"), max_images=10, budget=0.4) as batch:
        async for outcome in batch:
            assert_type(outcome, Outcome)
        assert_type(batch.progress, Progress)
        assert_type(batch.summary, Summary)
        assert_type(batch.summary.cost_usd, float)
    async with Batch(client, open_source("prompts.csv"), output="out") as batch:
        assert_type(await anext(batch), Outcome)


async def every_setting(session: aiohttp.ClientSession, connector: aiohttp.BaseConnector) -> None:
    catalog = CATALOG.extended(Model(id="mine", price_usd=0.01)).extended_from({"mine": {"max_n": 2}})
    assert_type(catalog, Catalog)
    assert_type(catalog["mine"], Model)
    client = ImagenClient(
        "sk-...",
        "https://gateway.example/v1",
        rpm=20,
        images_per_minute=30.5,
        timeouts=30.0,
        retry=RetryPolicy(on_ambiguous="fail", max_attempts=3),
        quota=RetryQuota(capacity=100),
        caps=Caps(max_pixels=2**24),
        overflow=OverflowPolicy(patience=60),
        catalog=catalog,
        send_response_format=False,
        session=session,
        connector=connector,
        proxy="http://proxy.example:3128",
        trust_env=True,
        trace_configs=[aiohttp.TraceConfig()],
        headers={"X-Team": "art"},
    )
    ImagenClient(timeouts=Timeouts(connect=5.0, read=None))
    ImagenClient(timeouts="30")  # type: ignore[arg-type]
    RetryPolicy(on_ambiguous="never")  # type: ignore[arg-type]
    await client.close()
    await client.aclose()


async def errors(client: ImagenClient) -> None:
    try:
        await client.generate("A red fox")
    except InvalidRequestError as error:
        assert_type(error.problems, tuple[str, ...])
    except TimeoutError as error:
        if isinstance(error, TimeoutExceededError):
            assert_type(error.seconds, float)
    except TransportError as error:
        assert_type(error.sent, bool)
        assert_type(error.offset, int | None)
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
    request.n = 2  # type: ignore[misc]
    ImageRequest()  # type: ignore[call-arg]
    ImageRequest("A red fox", "imagen-9")  # type: ignore[call-arg]
    ImageRequest("A red fox", n="2")  # type: ignore[arg-type]
