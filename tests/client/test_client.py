from __future__ import annotations

import threading
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest

from imagen_async import (
    CATALOG,
    AuthenticationError,
    Caps,
    ConfigurationError,
    ImagenClient,
    ImageRequest,
    InvalidRequestError,
    LocalStore,
    MemoryStore,
    Model,
    ModelNotFoundError,
    ProtocolError,
    RetryPolicy,
    Status,
)
from imagen_async.client.client import DEFAULT_BASE_URL
from imagen_async.sandbox import read_stamp
from tests.clients import (
    KEY,
    URL,
    client_of,
    open_files,
    prompt_in,
)
from tests.clock import FakeClock
from tests.pictures import png
from tests.servers import Asked, answer, body_of, reply, serving
from tests.spying import SpyStore

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from imagen_async import Store
    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


# -- a client and its settings ---------------------------------------------------------------------------------------


def test_key_and_url_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEN_API_KEY", KEY)
    assert DEFAULT_BASE_URL in repr(ImagenClient())
    monkeypatch.setenv("IMAGEN_BASE_URL", URL)
    assert URL in repr(ImagenClient())
    assert "other.example" in repr(ImagenClient(base_url="https://other.example/v1"))


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({}, "there is no API key"),
        ({"api_key": ""}, "there is no API key"),
        ({"api_key": KEY + "\n"}, "the API key contains invalid characters"),
        ({"api_key": " " + KEY}, "the API key contains invalid characters"),
        ({"api_key": "ключ"}, "the API key contains invalid characters"),
        ({"api_key": KEY, "base_url": "http://gateway.example/v1"}, "must be https"),
        ({"api_key": URL, "base_url": KEY}, "must begin with https"),
        ({"api_key": KEY, "max_concurrency": 0}, "max_concurrency must be a whole number from 1, not 0"),
        ({"api_key": KEY, "max_reading": "2"}, "max_reading must be a whole number from 1, not '2'"),
        ({"api_key": KEY, "writers": -1}, "writers must be a whole number from 1, or None, not -1"),
        ({"api_key": KEY, "rpm": 0}, "rpm must be a finite number above 0, or None, not 0"),
        ({"api_key": KEY, "images_per_minute": float("nan")}, "images_per_minute must be .* not nan"),
        ({"api_key": KEY, "timeouts": -1.0}, r"Timeouts\.total must be a finite number above 0, or None, not -1\.0"),
        ({"api_key": KEY, "timeouts": aiohttp.ClientTimeout()}, r"Timeouts\.total must be .* not ClientTimeout"),
        ({"api_key": KEY, "retry": 3}, "retry must be a RetryPolicy, not 3"),
        ({"api_key": KEY, "quota": RetryPolicy()}, "quota must be a RetryQuota, not RetryPolicy"),
        ({"api_key": KEY, "caps": {}}, "caps must be a Caps, not {}"),
        ({"api_key": KEY, "overflow": 2**28}, "overflow must be an OverflowPolicy, not 268435456"),
        ({"api_key": KEY, "catalog": ["imagen-9"]}, "catalog must be a Catalog, not "),
    ],
)
def test_invalid_settings_are_refused_without_showing_the_key(options: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem) as caught:
        ImagenClient(**options)
    assert KEY not in str(caught.value)
    frames = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    inside = [frame for frame in frames if frame.name == "__init__"]
    assert inside
    if "base_url" not in options:
        assert KEY not in str([frame.locals for frame in inside])


def test_a_client_can_be_created_without_a_loop_and_opens_nothing() -> None:
    threads, files = threading.active_count(), open_files()
    client = ImagenClient(KEY)
    assert (threading.active_count(), open_files()) == (threads, files)
    assert client.catalog is CATALOG
    assert KEY not in repr(client)


async def test_a_request_to_a_plain_http_host_needs_allow_http() -> None:
    assert "10.0.0.7" in repr(ImagenClient(KEY, "http://10.0.0.7/v1", allow_http=True))


# -- one request -----------------------------------------------------------------------------------------------------


async def test_without_a_store_images_are_returned_as_bytes(imagen_sandbox: SandboxGateway, clock: FakeClock) -> None:
    async with client_of(imagen_sandbox, clock) as client:
        outcome = await client.generate("A cute baby sea otter", n=2, aspect_ratio="16:9")
    assert outcome.ok
    assert [image.index for image in outcome.images] == [0, 1]
    assert outcome.request_id == imagen_sandbox.ledger.entries[0].request_id
    for image in outcome.images:
        assert image.data == image.read()
        assert len(image.read()) == image.size
        assert read_stamp(image.read())["prompt"] == "A cute baby sea otter"


async def test_with_a_local_store_images_are_files(
    imagen_sandbox: SandboxGateway, clock: FakeClock, tmp_path: Path
) -> None:
    async with client_of(imagen_sandbox, clock) as client:
        outcome = await client.generate(ImageRequest("A red fox", id="fox/1"), store=LocalStore(tmp_path))
    (image,) = outcome.images
    assert image.path is not None
    assert image.data is None
    assert Path(image.path).is_relative_to(tmp_path)
    assert prompt_in(Path(image.path)) == prompt_in(image.save(tmp_path / "copy.png")) == "A red fox"
    assert read_stamp(image.read())["prompt"] == "A red fox"


class Uploading(SpyStore):
    writers = 7


@pytest.mark.parametrize(
    ("make", "options", "threads", "with_digests"),
    [
        (MemoryStore, {}, 0, 1),
        (SpyStore, {}, 4, 5),
        (Uploading, {}, 7, 8),
        (Uploading, {"writers": 3}, 3, 3),
    ],
)
async def test_a_store_asks_for_writer_threads_and_the_client_s_setting_overrides_it(
    make: Callable[[], Store],
    options: dict[str, Any],
    threads: int,
    with_digests: int,
    imagen_sandbox_factory: SandboxFactory,
) -> None:
    before = set(threading.enumerate())

    def begun() -> int:
        return sum(thread.name.startswith("imagen-writer") for thread in set(threading.enumerate()) - before)

    async with client_of(await imagen_sandbox_factory(), FakeClock(), **options) as client:
        await client.generate("a fox", store=make())
        assert begun() == threads
        await client.generate("a hen", store=make(), sha256=True)
        assert begun() == with_digests


class Boundless(SpyStore):
    writers = "many"


class Owing(SpyStore):
    writers = -1


class Misspelt(SpyStore):
    writer = 8


@pytest.mark.parametrize(
    ("store", "problem"),
    [
        ("foxes", r"store must be a Store, not 'foxes'; use LocalStore\('foxes'\) for files in that folder"),
        (Path("foxes"), r"use LocalStore\('foxes'\)"),
        (LocalStore, "store must be an object with a method open, .* not the class LocalStore"),
        (object(), "store must be an object with a method open, such as a LocalStore, not <object"),
        (Boundless(), r"Boundless\.writers must be a whole number from 0, not 'many'"),
        (Owing(), r"Owing\.writers must be a whole number from 0, not -1"),
        (Misspelt(), "the store Misspelt has writer; did you mean writers"),
    ],
)
async def test_an_object_that_is_not_a_store_is_refused_before_anything_is_sent(
    imagen_sandbox: SandboxGateway, clock: FakeClock, store: Any, problem: str
) -> None:
    async with client_of(imagen_sandbox, clock) as client:
        with pytest.raises(ConfigurationError, match=problem):
            await client.generate("a fox", store=store)
        with pytest.raises(ConfigurationError, match=problem):
            client.stream(["a fox"], store=store)
    assert not imagen_sandbox.ledger.entries


async def test_a_store_that_is_false_because_it_is_empty_is_used(
    imagen_sandbox: SandboxGateway, clock: FakeClock
) -> None:
    class Counted(SpyStore):
        def __len__(self) -> int:
            return len(self.sinks)

    store = Counted()
    async with client_of(imagen_sandbox, clock) as client:
        await client.generate("a fox", store=store)
        async with client.stream(["a hen"], store=store) as outcomes:
            assert [outcome.status async for outcome in outcomes] == [Status.SUCCEEDED]
    assert len(store.committed) == 2


@pytest.mark.parametrize(
    "request_",
    [
        ImageRequest(""),
        ImageRequest("a fox", n=9, aspect_ratio="2:1"),
        ImageRequest("fox " * 481),
        ImageRequest("a fox", extra={"n": 1}),
        ImageRequest(7),  # type: ignore[arg-type] # the point of the test
    ],
)
async def test_an_invalid_request_is_refused_before_anything_is_sent(
    request_: ImageRequest, imagen_sandbox: SandboxGateway, clock: FakeClock
) -> None:
    async with client_of(imagen_sandbox, clock) as client:
        with pytest.raises(InvalidRequestError) as caught:
            await client.generate(request_)
        async with client.stream([request_]) as outcomes:
            (outcome,) = [outcome async for outcome in outcomes]
    assert outcome.status is Status.FAILED
    assert isinstance(outcome.error, InvalidRequestError)
    assert outcome.error.problems == caught.value.problems
    assert imagen_sandbox.requests == 0


async def test_an_unknown_model_is_sent_with_a_note_and_the_gateway_decides(
    imagen_sandbox_factory: SandboxFactory, clock: FakeClock
) -> None:
    gateway = await imagen_sandbox_factory(models=["imagen-9"])
    async with client_of(gateway, clock) as client:
        outcome = await client.generate("a fox", model="imagen-9")
        assert outcome.ok
        assert "not in the catalog" in outcome.notes[0]
        with pytest.raises(ModelNotFoundError):
            await client.generate("a fox", model="imagen-10")


async def test_the_client_s_own_catalog_decides_what_is_valid(imagen_sandbox: SandboxGateway, clock: FakeClock) -> None:
    catalog = CATALOG.extended(Model(id="imagen-3.0-generate-001", prompt_tokens=2))
    async with client_of(imagen_sandbox, clock, catalog=catalog) as client:
        with pytest.raises(InvalidRequestError):
            await client.generate("a red fox")


@pytest.mark.parametrize(
    ("args", "fields", "problem"),
    [
        (("a fox",), {"aspect_ration": "16:9"}, "no field aspect_ration; did you mean aspect_ratio"),
        ((ImageRequest("a fox"),), {"n": 2}, "set n in the ImageRequest"),
    ],
)
async def test_fields_that_do_not_exist_are_refused_by_name(args: Any, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        await ImagenClient(KEY).generate(*args, **fields)


async def test_extra_fields_are_sent_unchanged_and_response_format_can_be_omitted() -> None:
    extra = {"seed": 7, "safety": {"level": ["low", None, 1.5]}, "ümlaut": "ß"}
    async with serving(answer(reply(body_of(png())))) as server:
        async with ImagenClient(KEY, server.base_url) as client:
            await client.generate("a fox", extra=extra)
        async with ImagenClient(KEY, server.base_url, send_response_format=False) as client:
            await client.generate("a fox")
    with_extra, without = (asked.json for asked in server.asked)
    assert {name: with_extra[name] for name in extra} == extra
    assert with_extra["response_format"] == "b64_json"
    assert "response_format" not in without
    assert without["prompt"] == "a fox"


async def test_no_two_jobs_share_an_idempotency_key(imagen_sandbox: SandboxGateway, clock: FakeClock) -> None:
    async with client_of(imagen_sandbox, clock) as client, client_of(imagen_sandbox, clock) as other:
        for who in (client, client, other):
            await who.generate("a fox")
    assert len({entry.idempotency_key for entry in imagen_sandbox.ledger}) == 3


async def test_a_retried_job_keeps_its_idempotency_key_and_its_bytes(clock: FakeClock) -> None:
    said = iter([reply(b"", status=429), reply(b"{", length=9), reply(body_of(png()))])

    async def handler(_: Asked, writer: asyncio.StreamWriter) -> None:
        part = next(said)
        writer.write(part)
        if part.endswith(b"{"):
            writer.close()

    async with serving(handler) as server:
        async with ImagenClient(KEY, server.base_url, _runtime=clock.runtime()) as client:
            assert (await client.generate("a fox")).ok
        assert len(server.asked) == 3
        assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 1
        assert len({asked.body for asked in server.asked}) == 1


async def test_a_request_is_sent_again_under_the_key_of_an_earlier_run_if_it_is_the_same(clock: FakeClock) -> None:
    request, other = ImageRequest("a fox", n=3), ImageRequest("an owl", n=3)
    async with ImagenClient(KEY, "http://127.0.0.1:9", _runtime=clock.runtime()) as client:
        store = MemoryStore()
        first = client.jobs.job(request, store=store).encoded
        again = client.jobs.job(request, store=store, in_doubt=1, earlier_key=first.idempotency_key)
        assert again.encoded == first
        fewer = client.jobs.job(request, store=store, indices=[1, 2], earlier_key=first.idempotency_key)
        another = client.jobs.job(other, store=store, earlier_key=first.idempotency_key)
        again.renew()
        keys = {job.encoded.idempotency_key for job in (again, fewer, another)}
        assert len(keys | {first.idempotency_key}) == 4


async def test_a_list_of_models_tests_the_key(imagen_sandbox: SandboxGateway) -> None:
    async with ImagenClient(imagen_sandbox.api_key, imagen_sandbox.base_url) as client:
        assert await client.list_models() == tuple(CATALOG)
    async with ImagenClient(KEY, imagen_sandbox.base_url) as client:
        with pytest.raises(AuthenticationError):
            await client.list_models()


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"data": 7}', b'{"object": "list"}', b"[" * 100_000])
async def test_a_response_that_is_not_a_list_of_models_is_a_protocol_error(body: bytes) -> None:
    async with serving(answer(reply(body))) as server, ImagenClient(KEY, server.base_url) as client:
        with pytest.raises(ProtocolError, match="not a list of models"):
            await client.list_models()


async def test_caps_apply_to_responses(imagen_sandbox: SandboxGateway, clock: FakeClock) -> None:
    once = RetryPolicy(max_attempts=1)
    async with client_of(imagen_sandbox, clock, caps=Caps(max_image_bytes=50), retry=once) as client:
        with pytest.raises(ProtocolError, match="size"):
            await client.generate("a fox")


# -- the end ---------------------------------------------------------------------------------------------------------


async def test_the_caller_s_session_serves_several_clients(imagen_sandbox: SandboxGateway) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(2):
            async with ImagenClient(imagen_sandbox.api_key, imagen_sandbox.base_url, session=session) as client:
                assert (await client.generate("a fox")).ok
        assert not session.closed
