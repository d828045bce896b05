"""Each fault behaves as its line in the table describes, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from typing import Any

import aiohttp
import pytest
from PIL import Image

from imagen_async.sandbox import FAULTS, WRAPPINGS, LedgerEntry, SandboxGateway, read_stamp
from tests.sandbox.asking import BODY, FakeTime, Reply, ask


async def meet(name: str, **fields: Any) -> tuple[Reply, LedgerEntry]:
    """Ask a gateway that always shows this fault."""
    async with SandboxGateway(images="tiny", faults={name: 1.0}, sleep=FakeTime().sleep) as gateway:
        reply = await ask(gateway, **fields)
    [entry] = gateway.ledger.entries
    return reply, entry


async def raw(name: str, **fields: Any) -> tuple[bytes, LedgerEntry]:
    """Ask the same over a bare socket, and return every byte until the connection closes."""
    async with SandboxGateway(images="tiny", faults={name: 1.0}, sleep=FakeTime().sleep) as gateway:
        host, port = gateway.base_url.removeprefix("http://").removesuffix("/v1").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = json.dumps({**BODY, **fields}).encode()
        head = (
            "POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            f"Authorization: Bearer {gateway.api_key}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
    [entry] = gateway.ledger.entries
    return answer, entry


def test_every_fault_has_a_case_here() -> None:
    cases = {*REFUSALS, *PAGES, *BROKEN, *SPOILED, *(f"odd-wrapping:{name}" for name in WRAPPINGS)}
    assert cases == set(FAULTS) - {"slow", "odd-wrapping"}


REFUSALS = {
    "429": (429, "rate_limit_exceeded", 0),
    "400-blocked": (400, 400, 0),
    "401": (401, "invalid_api_key", 0),
    "403": (403, "insufficient_user_quota", 0),
    "500": (500, "do_request_failed", 0),
    "503": (503, None, 0),
    "503-model-not-found": (503, "model_not_found", 0),
    "504": (504, "bad_response_status_code", 2),
    "error-in-200": (200, "upstream_error", 0),
}


@pytest.mark.parametrize("name", REFUSALS)
async def test_a_refusal_has_its_status_code_and_bill(name: str) -> None:
    status, code, billed = REFUSALS[name]
    reply, entry = await meet(name, n=2)
    assert (reply.status, reply.error["code"]) == (status, code)
    assert reply.headers["x-request-id"] == entry.request_id
    assert (entry.status, entry.fault, entry.billed, entry.sent) == (status, name, billed, 0)


async def test_a_blocked_prompt_has_support_codes_and_googles_shape() -> None:
    reply, _ = await meet("400-blocked")
    assert reply.error["status"] == "INVALID_ARGUMENT"
    assert "Support codes: " in reply.error["message"]


@pytest.mark.parametrize(("retry_after", "sent"), [(None, None), (3.5, "3.5"), ("exact", "1")])
async def test_a_429_fault_sends_the_retry_after_asked_for(retry_after: Any, sent: str | None) -> None:
    async with SandboxGateway(images="tiny", faults={"429": 1.0}, retry_after=retry_after) as gateway:
        reply = await ask(gateway)
    assert reply.headers.get("Retry-After") == sent


PAGES = {"502-html": (502, "nginx", 0), "524-html": (524, "cloudflare", 2), "html-in-200": (200, "cloudflare", 0)}


@pytest.mark.parametrize("name", PAGES)
async def test_a_page_is_html(name: str) -> None:
    status, maker, billed = PAGES[name]
    reply, entry = await meet(name, n=2)
    assert reply.status == status
    assert reply.headers["Content-Type"].startswith("text/html")
    assert maker in reply.body.decode()
    assert entry.billed == billed


@pytest.mark.parametrize("name", [name for name, fault in FAULTS.items() if not fault.works])
async def test_an_immediate_refusal_does_not_wait_for_the_latency(name: str) -> None:
    time = FakeTime()
    async with SandboxGateway(images="tiny", faults={name: 1.0}, latency=5, sleep=time.sleep) as gateway:
        await ask(gateway)
    assert time.slept == []


BROKEN = {
    "disconnect": (aiohttp.ServerDisconnectedError, 0),
    "truncate": (aiohttp.ClientPayloadError, 1),
    "truncate-chunked": (aiohttp.ClientPayloadError, 1),
    "truncate-close": (json.JSONDecodeError, 1),
    "stall": (aiohttp.ClientPayloadError, 0),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_connection_is_billed_and_breaks_as_described(name: str) -> None:
    error, whole = BROKEN[name]
    async with SandboxGateway(images="tiny", faults={name: 1.0}, sleep=FakeTime().sleep) as gateway:
        with pytest.raises(error):
            _ = (await ask(gateway, n=3)).json
    [entry] = gateway.ledger.entries
    assert (entry.fault, entry.billed, entry.sent) == (name, 3, whole)
    assert entry.status == (None if name == "disconnect" else 200)


async def test_disconnect_sends_not_one_byte() -> None:
    assert (await raw("disconnect"))[0] == b""


async def test_truncate_promises_a_length_and_sends_half() -> None:
    answer, _ = await raw("truncate")
    head, _, body = answer.partition(b"\r\n\r\n")
    promised = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    assert len(body) == promised // 2


async def test_truncate_close_promises_no_length() -> None:
    answer, entry = await raw("truncate-close")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert b"connection: close" in head.lower()
    assert b"content-length" not in head.lower()
    assert b"transfer-encoding" not in head.lower()
    assert entry.request_id.encode() in head
    assert body.startswith(b'{"created":')
    with pytest.raises(json.JSONDecodeError):
        json.loads(body)


async def test_truncate_chunked_has_no_last_chunk() -> None:
    answer, _ = await raw("truncate-chunked")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"transfer-encoding: chunked" in head.lower()
    assert not body.endswith(b"0\r\n\r\n")
    assert int(body.split(b"\r\n")[0], 16) == len(body.split(b"\r\n")[1])


async def test_stall_sends_headers_and_is_silent_for_the_seconds_set() -> None:
    time = FakeTime()
    async with SandboxGateway(images="tiny", faults={"stall": 1.0}, stall_s=42, sleep=time.sleep) as gateway:
        with pytest.raises(aiohttp.ClientPayloadError):
            await ask(gateway)
    assert time.slept == [42]
    answer, _ = await raw("stall")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert answer.endswith(b"\r\n\r\n")


async def test_slow_takes_the_seconds_set_and_arrives_whole() -> None:
    time = FakeTime()
    async with SandboxGateway(images="tiny", faults={"slow": 1.0}, slow_s=8, sleep=time.sleep) as gateway:
        reply = await ask(gateway, n=2)
        await gateway.settled()
    assert len(reply.images) == 2
    assert len(time.slept) > 10
    assert sum(time.slept) == pytest.approx(8, rel=0.1)
    assert gateway.ledger.sent_images == 2


SPOILED = {
    # How many images are billed and how many good ones sent, for n = 3 and for n = 1.
    "empty-200": ((0, 0), (0, 0)),
    "filtered": ((0, 0), (0, 0)),
    "short": (None, (0, 0)),
    "null-image": ((2, 2), (0, 0)),
    "corrupt-base64": ((3, 2), (1, 0)),
    "not-an-image": ((3, 2), (1, 0)),
    "no-iend": ((3, 2), (1, 0)),
    "url-in-200": ((3, 0), (1, 0)),
    "data-url-in-200": ((3, 3), (1, 1)),
    "wrong-format": ((3, 3), (1, 1)),
    "webp": ((3, 3), (1, 1)),
}


@pytest.mark.parametrize("n", [1, 3])
@pytest.mark.parametrize("name", SPOILED)
async def test_an_invalid_response_is_a_200_with_its_bill(name: str, n: int) -> None:
    reply, entry = await meet(name, n=n)
    assert (reply.status, entry.status, entry.fault) == (200, 200, name)
    expected = SPOILED[name][0 if n == 3 else 1]
    if expected is not None:
        assert (entry.billed, entry.sent) == expected


async def test_empty_data_is_empty() -> None:
    assert (await meet("empty-200"))[0].json["data"] == []


async def test_filtered_responses_have_every_known_form_and_no_image() -> None:
    shapes = set()
    async with SandboxGateway(images="tiny", filtered=1.0) as gateway:
        for number in range(40):
            data = (await ask(gateway, prompt=f"fox {number}")).json["data"]
            assert not any(item.get("b64_json") for item in data)
            shapes.add(tuple(tuple(sorted(item)) for item in data))
    assert shapes == {(), ((),), (("b64_json", "url"),), (("raiFilteredReason",),)}
    assert gateway.ledger.billed_images == 0


async def test_short_responses_have_at_least_one_image_and_fewer_than_asked() -> None:
    counts = set()
    async with SandboxGateway(images="tiny", short=1.0) as gateway:
        for number in range(40):
            counts.add(len((await ask(gateway, prompt=f"fox {number}", n=4)).images))
        await gateway.settled()
    assert counts == {1, 2, 3}
    assert gateway.ledger.billed_images == gateway.ledger.sent_images


async def test_null_image_leaves_the_other_images_valid() -> None:
    reply, _ = await meet("null-image", n=3)
    assert [item["b64_json"] is None for item in reply.json["data"]] == [False, False, True]


async def test_corrupt_base64_leaves_the_other_images_valid() -> None:
    reply, _ = await meet("corrupt-base64", n=2)
    good, bad = (item["b64_json"] for item in reply.json["data"])
    base64.b64decode(good, validate=True)
    with pytest.raises(ValueError, match="base64"):
        base64.b64decode(bad, validate=True)


async def test_not_an_image_is_good_base64_of_something_else() -> None:
    reply, _ = await meet("not-an-image", n=2)
    assert read_stamp(reply.images[0])["index"] == 0
    assert reply.images[1].startswith(b"The image could not be rendered")


@pytest.mark.parametrize(("kind", "end"), [("png", b"IEND\xaeB`\x82"), ("jpeg", b"\xff\xd9")])
async def test_no_iend_lacks_the_end_and_nothing_else(kind: str, end: bytes) -> None:
    reply, _ = await meet("no-iend", n=2, output_format=kind)
    good, bad = reply.images
    assert good.endswith(end)
    assert not bad.endswith(end)
    assert read_stamp(bad)["index"] == 1
    closing = b"\0\0\0\0" + end if kind == "png" else end
    Image.open(io.BytesIO(bad + closing)).verify()


async def test_urls_stand_in_for_base64() -> None:
    reply, _ = await meet("url-in-200", n=2)
    assert [set(item) for item in reply.json["data"]] == [{"url"}] * 2
    reply, _ = await meet("data-url-in-200")
    prefix, _, text = reply.json["data"][0]["url"].partition(",")
    assert prefix == "data:image/png;base64"
    assert read_stamp(base64.b64decode(text))["prompt"] == BODY["prompt"]


@pytest.mark.parametrize(
    ("name", "asked", "came"),
    [
        ("wrong-format", "png", "JPEG"),
        ("wrong-format", "jpeg", "PNG"),
        ("webp", "png", "WEBP"),
        ("webp", "jpeg", "WEBP"),
    ],
)
async def test_another_format_than_asked_is_a_complete_stamped_image(name: str, asked: str, came: str) -> None:
    reply, _ = await meet(name, n=2, output_format=asked)
    for index, data in enumerate(reply.images):
        image = Image.open(io.BytesIO(data))
        image.load()
        assert image.format == came
        assert read_stamp(data)["index"] == index


@pytest.mark.parametrize("name", WRAPPINGS)
async def test_an_odd_wrapping_is_billed_and_sent_like_a_plain_response(name: str) -> None:
    reply, entry = await meet(f"odd-wrapping:{name}", n=2)
    assert reply.status == 200
    assert (entry.fault, entry.billed, entry.sent) == (f"odd-wrapping:{name}", 2, 2)


async def test_the_ledger_names_the_wrapping_that_was_drawn() -> None:
    _, entry = await meet("odd-wrapping")
    assert entry.fault is not None
    assert entry.fault.removeprefix("odd-wrapping:") in WRAPPINGS


async def test_no_padding_lacks_padding_that_is_needed() -> None:
    reply, _ = await meet("odd-wrapping:no-padding", n=2)
    for item in reply.json["data"]:
        assert len(item["b64_json"]) % 4
        assert read_stamp(base64.b64decode(item["b64_json"] + "=="))


async def test_gzip_is_declared() -> None:
    reply, _ = await meet("odd-wrapping:gzip")
    assert reply.headers["Content-Encoding"] == "gzip"
    assert read_stamp(reply.images[0])["index"] == 0


async def test_one_fault_per_body_lets_the_second_try_through() -> None:
    async with SandboxGateway(images="tiny", faults={"500": 1.0}, faults_per_body=1) as gateway:
        statuses = [(await ask(gateway)).status for _ in range(3)]
    assert statuses == [500, 200, 200]
