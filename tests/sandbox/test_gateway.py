"""The gateway over real sockets: the contract, the limits, the ledger, and a clean end."""

from __future__ import annotations

import asyncio
import io
import json
import socket
import threading
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from PIL import Image

from imagen_async.catalog import CATALOG
from imagen_async.exceptions import ConfigurationError
from imagen_async.sandbox import LedgerEntry, SandboxGateway, read_ledger, read_stamp
from tests.sandbox.asking import BODY, FakeTime, Reply, ask, post

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    left = set(threading.enumerate()) - before
    assert not [thread for thread in left if thread.name.startswith("sandbox")]


async def test_a_valid_request_gets_the_contracts_response() -> None:
    async with SandboxGateway(images="tiny", wall_clock=lambda: 1_700_000_000.9) as gateway:
        reply = await ask(gateway, n=3, output_format="jpeg", aspect_ratio="16:9", response_format="b64_json")
    assert reply.status == 200
    assert reply.headers["Content-Type"].startswith("application/json")
    assert int(reply.headers["Content-Length"]) == len(reply.body)
    assert set(reply.json) == {"created", "data"}
    assert reply.json["created"] == 1_700_000_000
    assert [set(item) for item in reply.json["data"]] == [{"b64_json"}] * 3
    for image in reply.images:
        assert Image.open(io.BytesIO(image)).format == "JPEG"


async def test_every_image_names_its_prompt_index_and_request() -> None:
    prompts = ["A red fox", "лиса", 'a "quoted" \n fox \\', "🦊" * 40]
    async with SandboxGateway(images="tiny") as gateway:
        replies = await asyncio.gather(*(ask(gateway, prompt=prompt, n=4) for prompt in prompts))
    for prompt, reply in zip(prompts, replies, strict=True):
        request_id = reply.headers["x-request-id"]
        assert [read_stamp(image) for image in reply.images] == [
            {"prompt": prompt, "index": index, "request_id": request_id} for index in range(4)
        ]


async def test_a_realistic_response_arrives_whole() -> None:
    async with SandboxGateway() as gateway:
        reply = await ask(gateway, n=2)
        await gateway.settled()
    assert [Image.open(io.BytesIO(image)).size for image in reply.images] == [(1024, 1024)] * 2
    assert all(1_300_000 <= len(image) <= 1_500_000 for image in reply.images)
    assert gateway.ledger.sent_images == 2


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"n": 5}, 400, "n"),
        ({"prompt": ""}, 400, "prompt"),
        ({"style": "sketch"}, 400, "style"),
        ({"model": "imagen-9"}, 404, "model"),
    ],
)
async def test_a_bad_request_is_refused_as_openai_does(fields: dict[str, Any], status: int, param: str) -> None:
    async with SandboxGateway(images="tiny") as gateway:
        reply = await ask(gateway, **fields)
    assert reply.status == status
    assert set(reply.error) == {"message", "type", "param", "code"}
    assert reply.error["param"] == param
    assert [(entry.status, entry.billed) for entry in gateway.ledger] == [(status, 0)]


async def test_an_unknown_model_can_be_a_permanent_503() -> None:
    async with SandboxGateway(images="tiny", unknown_model_status=503) as gateway:
        reply = await ask(gateway, model="imagen-9")
    assert (reply.status, reply.error["code"]) == (503, "model_not_found")


async def test_custom_models_are_served_and_listed() -> None:
    async with SandboxGateway(images="tiny", models=["my-finetune"]) as gateway:
        assert (await ask(gateway, model="my-finetune")).status == 200
        assert (await ask(gateway)).status == 404


async def get(gateway: SandboxGateway, path: str, **headers: str) -> Reply:
    async with aiohttp.ClientSession() as session, session.get(gateway.base_url + path, headers=headers) as response:
        return Reply(response.status, response.headers, await response.read())


async def test_models_are_listed_with_the_key_only() -> None:
    async with SandboxGateway() as gateway:
        reply = await get(gateway, "/models", Authorization="Bearer " + gateway.api_key)
        refused = await get(gateway, "/models")
    assert reply.json["object"] == "list"
    assert [item["id"] for item in reply.json["data"]] == list(CATALOG)
    assert {item["object"] for item in reply.json["data"]} == {"model"}
    assert refused.status == 401
    assert gateway.requests == 0


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer sk-wrong"])
async def test_without_the_key_every_request_is_refused(key: str) -> None:
    async with SandboxGateway(images="tiny") as gateway:
        reply = await post(gateway, json.dumps(BODY).encode(), headers={"Authorization": key})
    assert reply.status == 401
    assert gateway.api_key not in reply.body.decode()


async def test_content_type_size_path_and_method_are_checked() -> None:
    async with SandboxGateway(images="tiny") as gateway:
        plain = await post(gateway, json.dumps(BODY).encode(), headers={"Content-Type": "text/plain"})
        large = await ask(gateway, prompt="x" * 2_000_000)
        lost = await get(gateway, "/nowhere")
        wrong_method = await get(gateway, "/images/generations")
    replies = [plain, large, lost, wrong_method]
    assert [reply.status for reply in replies] == [400, 413, 404, 405]
    assert all(reply.error["message"] for reply in replies)


async def test_every_response_has_its_own_request_id() -> None:
    async with SandboxGateway(images="tiny") as gateway:
        replies = [
            await ask(gateway),
            await ask(gateway),
            await ask(gateway, n=9),
            await get(gateway, "/models"),
            await get(gateway, "/nowhere"),
        ]
    assert len({reply.headers["x-request-id"] for reply in replies}) == 5
    assert [entry.request_id for entry in gateway.ledger] == [reply.headers["x-request-id"] for reply in replies[:3]]


async def test_the_ledger_has_the_images_asked_billed_and_sent(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    seen: list[LedgerEntry] = []
    async with SandboxGateway(images="tiny", ledger=path, on_request=seen.append, wall_clock=lambda: 12.5) as gateway:
        reply = await post(gateway, json.dumps({**BODY, "n": 2}).encode(), headers={"Idempotency-Key": "job-7"})
        await ask(gateway, n=0)
    expected = LedgerEntry(
        ordinal=1,
        at=12.5,
        request_id=reply.headers["x-request-id"],
        idempotency_key="job-7",
        model=BODY["model"],
        prompt=BODY["prompt"],
        n=2,
        status=200,
        billed=2,
        sent=2,
    )
    assert gateway.ledger.entries[0] == expected
    assert list(read_ledger(path)) == list(gateway.ledger) == seen
    assert (gateway.requests, gateway.ledger.billed_images, gateway.ledger.billed_for(BODY["prompt"])) == (2, 2, 2)


async def test_successive_gateways_append_to_one_ledger(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    for _ in range(2):
        async with SandboxGateway(images="tiny", ledger=path) as gateway:
            await ask(gateway, n=2)
    assert [entry.ordinal for entry in read_ledger(path)] == [1, 1]
    assert read_ledger(path).billed_images == 4


async def test_the_bill_is_in_the_file_before_the_first_byte_of_the_response(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    on_file: list[int] = []

    async def sleep(_: float) -> None:
        on_file.append(read_ledger(path).billed_images)

    async with SandboxGateway(images="tiny", ledger=path, latency=1, faults={"stall": 1.0}, sleep=sleep) as gateway:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(gateway)
    assert on_file == [0, 1], "nothing while the work goes on, the bill when headers have been sent"


async def test_latency_is_slept_and_a_range_drawn_from_the_seed() -> None:
    async def slept(latency: float | tuple[float, float], seed: int = 0) -> list[float]:
        time = FakeTime()
        async with SandboxGateway(images="tiny", latency=latency, seed=seed, sleep=time.sleep) as gateway:
            await ask(gateway)
            await ask(gateway, prompt="An otter")
        return time.slept

    assert await slept(2.5) == [2.5, 2.5]
    assert await slept(0.0) == []
    drawn = await slept((1, 3))
    assert all(1 <= seconds <= 3 for seconds in drawn)
    assert len(set(drawn)) == 2
    assert drawn == await slept((1, 3))
    assert drawn != await slept((1, 3), seed=1)


@pytest.mark.parametrize(("retry_after", "sent"), [(None, None), (7, "7"), (0.25, "0.25"), ("exact", "50")], ids=str)
async def test_over_the_limit_is_a_429_with_the_retry_after_asked_for(retry_after: Any, sent: str | None) -> None:
    time = FakeTime()
    async with SandboxGateway(images="tiny", rpm=1, retry_after=retry_after, clock=time.clock) as gateway:
        assert (await ask(gateway)).status == 200
        time.now = 10.5
        reply = await ask(gateway)
        time.now = 60
        assert (await ask(gateway)).status == 200
    assert reply.status == 429
    assert reply.headers.get("Retry-After") == sent
    assert reply.error["code"] == "rate_limit_exceeded"
    assert gateway.ledger.statuses == {200: 2, 429: 1}


async def test_a_refused_request_does_not_use_up_the_limit() -> None:
    async with SandboxGateway(images="tiny", rpm=1) as gateway:
        assert (await ask(gateway, n=9)).status == 400
        assert (await ask(gateway)).status == 200


async def test_more_concurrent_requests_than_allowed_get_a_429() -> None:
    release = asyncio.Event()
    inside: asyncio.Queue[None] = asyncio.Queue()

    async def sleep(_: float) -> None:
        inside.put_nowait(None)
        await release.wait()

    async with SandboxGateway(images="tiny", latency=1, max_concurrent=2, retry_after="exact", sleep=sleep) as gateway:
        first = [asyncio.create_task(ask(gateway)) for _ in range(2)]
        for _ in first:
            await inside.get()
        turned_away = await ask(gateway)
        assert gateway.in_flight == 2
        release.set()
        assert [reply.status for reply in await asyncio.gather(*first)] == [200, 200]
        assert (await ask(gateway)).status == 200
    assert (turned_away.status, turned_away.headers["Retry-After"]) == (429, "1")
    assert gateway.most_concurrent == 2


async def test_a_client_that_disconnects_is_billed() -> None:
    release = asyncio.Event()
    inside = asyncio.Event()

    async def sleep(_: float) -> None:
        inside.set()
        await release.wait()

    async with SandboxGateway(images="tiny", latency=1, sleep=sleep) as gateway:
        asking = asyncio.create_task(ask(gateway))
        await inside.wait()
        asking.cancel()
        await asyncio.wait([asking])
        assert gateway._running is not None
        [request] = gateway._running.handlers.values()
        # Until the server has seen the connection close.
        while request.transport is not None:  # noqa: ASYNC110 - aiohttp has no event for it
            await asyncio.sleep(0)
        release.set()
        await gateway.settled()
    [entry] = gateway.ledger.entries
    assert (entry.billed, entry.sent) == (1, 0)


async def test_runs_with_one_seed_show_the_same_faults_in_any_order() -> None:
    faults = {"500": 0.3, "not-an-image": 0.3}
    prompts = [f"fox {number}" for number in range(30)]

    async def run(order: list[str], seed: int) -> dict[str | None, str | None]:
        async with SandboxGateway(images="tiny", faults=faults, seed=seed) as gateway:
            await asyncio.gather(*(ask(gateway, prompt=prompt) for prompt in order))
        return {entry.prompt: entry.fault for entry in gateway.ledger}

    first = await run(prompts, 0)
    assert first == await run(prompts[::-1], 0)
    assert set(first.values()) == {None, "500", "not-an-image"}
    assert first != await run(prompts, 1)


async def test_closing_aborts_requests_in_flight_and_leaves_nothing() -> None:
    before = asyncio.all_tasks()
    inside = asyncio.Event()

    async def sleep(_: float) -> None:
        inside.set()
        await asyncio.Event().wait()

    gateway = SandboxGateway(images="tiny", latency=1, sleep=sleep)
    await gateway.start()
    port = int(gateway.base_url.split(":")[2].split("/")[0])
    asking = asyncio.create_task(ask(gateway))
    await inside.wait()
    await gateway.aclose()
    with pytest.raises(aiohttp.ClientError):
        await asking
    assert asyncio.all_tasks() == before
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)
    await gateway.aclose()


async def test_closing_does_not_wait_for_a_client_that_does_not_read() -> None:
    async with SandboxGateway() as gateway:
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        peer.connect(address(gateway))
        reader, writer = await asyncio.open_connection(sock=peer, limit=1024)
        body = json.dumps({**BODY, "n": 4}).encode()
        head = (
            "POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {gateway.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await reader.readline()
        assert gateway.in_flight == 1
    [entry] = gateway.ledger.entries
    assert entry.billed == 4
    assert entry.sent < 4
    writer.close()


def address(gateway: SandboxGateway) -> tuple[str, int]:
    host, port = gateway.base_url.removeprefix("http://").removesuffix("/v1").split(":")
    return host, int(port)


async def test_a_gateway_can_be_started_again() -> None:
    gateway = SandboxGateway(images="tiny")
    for _ in range(2):
        async with gateway:
            assert (await ask(gateway)).status == 200
            with pytest.raises(ConfigurationError, match="already running"):
                await gateway.start()
        assert gateway.requests == 1


async def test_a_gateway_that_is_not_running_is_an_error() -> None:
    gateway = SandboxGateway()
    assert "not running" in repr(gateway)
    with pytest.raises(ConfigurationError, match="not running"):
        _ = gateway.base_url


async def test_a_port_in_use_is_reported() -> None:
    async with SandboxGateway() as first:
        port = address(first)[1]
        with pytest.raises(ConfigurationError, match="cannot listen"):
            await SandboxGateway(port=port).start()


async def test_an_invalid_port_is_reported() -> None:
    with pytest.raises(ConfigurationError, match="cannot listen"):
        await SandboxGateway(port=99_999).start()


async def test_it_listens_on_loopback_by_default() -> None:
    async with SandboxGateway(images="tiny") as gateway:
        assert address(gateway)[0] == "127.0.0.1"
    async with SandboxGateway(images="tiny", host="0.0.0.0") as gateway:  # noqa: S104 - the option under test
        assert address(gateway)[0] == "127.0.0.1", "the name under which this machine reaches it"
        assert (await ask(gateway)).status == 200


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6 here")
async def test_an_ipv6_address_is_bracketed() -> None:
    gateway = SandboxGateway(images="tiny", host="::1")
    try:
        await gateway.start()
    except ConfigurationError:
        pytest.skip("no IPv6 loopback here")
    assert gateway.base_url.startswith("http://[::1]:")
    assert (await ask(gateway)).status == 200
    await gateway.aclose()
