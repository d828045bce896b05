"""Every kind of response and failure becomes a typed error, and none shows the key."""

from __future__ import annotations

import asyncio
import logging
import os
import traceback
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import aioresponses

from imagen_async import (
    AuthenticationError,
    Batch,
    ConnectError,
    DisconnectedError,
    EndpointNotFoundError,
    FilteredError,
    ImagenClient,
    ImagenError,
    LocalStore,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectedError,
    RejectedError,
    RetryPolicy,
    Status,
    TimeoutExceededError,
    TransportError,
)
from imagen_async.sandbox import FAULTS, SANDBOX_KEY, WRAPPINGS, read_stamp
from tests.clients import (
    FATAL,
    KEY,
    POST,
    URL,
    client_of,
    files_under,
)
from tests.clock import LoopClock, until
from tests.pictures import png
from tests.servers import answer, body_of, reply, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory
    from tests.clock import FakeClock


# -- statuses and headers, by aioresponses ---------------------------------------------------------------------------


class MockedResponse(aiohttp.ClientResponse):
    """Passes the argument that aiohttp 3.14 requires and aioresponses 0.7.9 does not pass (its issue 289)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, stream_writer=Mock(), **kwargs)


@pytest.fixture
def mocked() -> Iterator[aioresponses]:
    with aioresponses() as mock:
        yield mock


def say(mocked: aioresponses, status: int = 200, body: bytes = b"", **headers: str) -> None:
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    mocked.post(POST, status=status, body=body, headers=named, response_class=MockedResponse)


def json_error(code: str) -> bytes:
    return b'{"error":{"message":"no","type":"api_error","param":null,"code":"' + code.encode() + b'"}}'


def mocked_client(clock: FakeClock, **options: Any) -> ImagenClient:
    return ImagenClient(KEY, URL, _runtime=clock.runtime(lambda: 0.0), **options)


@pytest.mark.parametrize(
    ("status", "body", "kind", "tries"),
    [
        (400, json_error("invalid_value"), RejectedError, 1),
        (
            400,
            b'{"error":{"code":400,"message":"Support codes: 58061214","status":"INVALID_ARGUMENT"}}',
            RejectedError,
            1,
        ),
        (401, json_error("invalid_api_key"), AuthenticationError, 1),
        (402, b"", PermissionDeniedError, 1),
        (403, json_error("insufficient_user_quota"), PermissionDeniedError, 1),
        (404, json_error("unknown_url"), EndpointNotFoundError, 1),
        (405, b"<html>", EndpointNotFoundError, 1),
        (404, json_error("model_not_found"), ModelNotFoundError, 1),
        (408, b"", OverloadedError, 2),
        (413, b"<html>", RejectedError, 1),
        (422, b'{"detail":[{"loc":["body","n"],"msg":"too many"}]}', RejectedError, 1),
        (500, json_error("do_request_failed"), OverloadedError, 2),
        (502, b"<html><h1>502 Bad Gateway</h1>", OverloadedError, 2),
        (503, json_error("model_not_found"), ModelNotFoundError, 1),
        (503, b"", OverloadedError, 2),
        (504, b"", OverloadedError, 2),
        (524, b"<!DOCTYPE html>", OverloadedError, 2),
        (307, b"", RedirectedError, 1),
        (204, b"", ProtocolError, 2),
    ],
)
async def test_each_status_has_its_typed_error_and_number_of_attempts(
    *, status: int, body: bytes, kind: type[ImagenError], tries: int, mocked: aioresponses, clock: FakeClock
) -> None:
    for _ in range(5):
        say(mocked, status, body, x_request_id="r-1")
    async with mocked_client(clock, retry=RetryPolicy(max_attempts=2)) as client:
        with pytest.raises(ImagenError) as caught:
            await client.generate("a fox")
    assert type(caught.value) is kind
    assert len(caught.value.attempts) == tries
    assert getattr(caught.value, "request_id", None) == "r-1"
    (calls,) = mocked.requests.values()
    assert len(calls) == tries
    assert all(call.kwargs["allow_redirects"] is False for call in calls)


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry_After": "12"}, 12.0),
        ({"Retry_After": "0.5"}, 0.5),
        ({"retry_after_ms": "1500"}, 1.5),
        ({"Retry_After": "Fri, 15 Jan 2027 08:01:50 GMT"}, 10.0),
        ({"Retry_After": "Fri, 15 Jan 2027 08:02:00 GMT", "Date": "Fri, 15 Jan 2027 08:01:00 GMT"}, 60.0),
    ],
)
async def test_every_spelling_of_retry_after_is_obeyed(
    headers: dict[str, str], wait: float, mocked: aioresponses, clock: FakeClock
) -> None:
    say(mocked, 429, **headers)  # type: ignore[arg-type] # headers only
    say(mocked, 200, body_of(png()))
    async with mocked_client(clock) as client:
        outcome = await client.generate("a fox")
    assert outcome.ok
    assert outcome.elapsed_s == pytest.approx(wait)


@pytest.mark.parametrize(("status", "word", "tries"), [(400, "true", 2), (500, "false", 1), (429, "false", 1)])
async def test_the_header_x_should_retry_overrides_the_status(
    status: int, word: str, tries: int, mocked: aioresponses, clock: FakeClock
) -> None:
    for _ in range(tries):
        say(mocked, status, x_should_retry=word)
    say(mocked, 200, body_of(png()))
    async with mocked_client(clock, retry=RetryPolicy(max_attempts=2)) as client:
        with pytest.raises(ImagenError) as caught:
            await client.generate("a fox")
    assert len(caught.value.attempts) == tries


async def test_endless_429s_end_with_the_job_s_longest_time(mocked: aioresponses, clock: FakeClock) -> None:
    mocked.post(POST, status=429, headers={"Retry-After": "60"}, repeat=True, response_class=MockedResponse)
    async with mocked_client(clock) as client:
        with pytest.raises(RateLimitError) as caught:
            await client.generate("a fox")
    assert len(caught.value.attempts) == 30


# -- faults, on a real socket ----------------------------------------------------------------------------------------


FAULTY: dict[str, tuple[type[ImagenError], Status]] = {
    "429": (RateLimitError, Status.FAILED),
    "400-blocked": (RejectedError, Status.FAILED),
    "401": (AuthenticationError, Status.FAILED),
    "403": (PermissionDeniedError, Status.FAILED),
    "503": (OverloadedError, Status.IN_DOUBT),
    "503-model-not-found": (ModelNotFoundError, Status.FAILED),
    "500": (OverloadedError, Status.IN_DOUBT),
    "502-html": (OverloadedError, Status.IN_DOUBT),
    "504": (OverloadedError, Status.IN_DOUBT),
    "524-html": (OverloadedError, Status.IN_DOUBT),
    "disconnect": (DisconnectedError, Status.IN_DOUBT),
    "truncate": (DisconnectedError, Status.IN_DOUBT),
    "truncate-close": (ProtocolError, Status.IN_DOUBT),
    "truncate-chunked": (DisconnectedError, Status.IN_DOUBT),
    "stall": (DisconnectedError, Status.IN_DOUBT),
    "error-in-200": (ProtocolError, Status.IN_DOUBT),
    "html-in-200": (ProtocolError, Status.IN_DOUBT),
    "empty-200": (FilteredError, Status.FILTERED),
    "filtered": (FilteredError, Status.FILTERED),
    "url-in-200": (ProtocolError, Status.IN_DOUBT),
}
ONE_BROKEN = {"corrupt-base64", "not-an-image", "no-iend"}
"""The last image is broken, the others are complete."""
PARTIAL = {"short", "null-image"}
FINE = {
    "slow",
    "data-url-in-200",
    "wrong-format",
    "webp",
    "odd-wrapping",
    *(f"odd-wrapping:{name}" for name in WRAPPINGS),
}


def test_every_fault_of_the_sandbox_is_tested() -> None:
    assert set(FAULTY) | ONE_BROKEN | PARTIAL | FINE == set(FAULTS)


@pytest.mark.parametrize("fault", sorted(FAULTY))
async def test_a_fault_is_a_typed_error_and_leaves_nothing_behind(
    fault: str, imagen_sandbox_factory: SandboxFactory, clock: FakeClock, tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory(faults={fault: 1.0}, stall_s=0)
    kind, status = FAULTY[fault]
    retry = RetryPolicy(max_attempts=2, max_elapsed=10.0)
    async with client_of(gateway, clock, retry=retry) as client:
        with pytest.raises(ImagenError) as caught:
            await client.generate("a fox", n=2, store=LocalStore(tmp_path))
        assert type(caught.value) is kind
        if kind not in FATAL:
            async with client.stream(["a fox"], store=LocalStore(tmp_path)) as outcomes:
                (outcome,) = [outcome async for outcome in outcomes]
            assert outcome.status is status
            assert type(outcome.error) is kind
        assert client.limiter.in_flight == 0
    assert files_under(tmp_path) == []


@pytest.mark.parametrize("fault", sorted(ONE_BROKEN))
async def test_a_broken_image_does_not_cost_the_others(
    fault: str, imagen_sandbox_factory: SandboxFactory, clock: FakeClock, tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory(faults={fault: 1.0})
    async with client_of(gateway, clock) as client:
        outcome = await client.generate("a fox", n=3, store=LocalStore(tmp_path))
        with pytest.raises(ProtocolError):
            await client.generate("a fox", store=LocalStore(tmp_path))
    assert outcome.status is Status.PARTIAL
    assert isinstance(outcome.error, ProtocolError)
    # The second request asked for one image, and that one was broken as well.
    assert [image.index for image in outcome.images] == [0, 1]
    assert [attempt.doubtful for attempt in outcome.attempts] == [1, 1]
    assert len(files_under(tmp_path)) == 2


@pytest.mark.parametrize("fault", sorted(FINE | PARTIAL))
async def test_a_harmless_fault_costs_no_image(
    fault: str, imagen_sandbox_factory: SandboxFactory, clock: FakeClock
) -> None:
    gateway = await imagen_sandbox_factory(faults={fault: 1.0}, slow_s=0.002)
    async with client_of(gateway, clock) as client:
        outcome = await client.generate("a fox", n=3)
    assert outcome.status is (Status.PARTIAL if fault in PARTIAL else Status.SUCCEEDED)
    assert all(read_stamp(image.data or b"")["prompt"] == "a fox" for image in outcome.images)
    assert bool(outcome.images[0].notes) is (fault in {"wrong-format", "webp"})


async def test_a_temporary_failure_is_retried_and_listed_in_the_outcome(
    imagen_sandbox_factory: SandboxFactory, clock: FakeClock
) -> None:
    gateway = await imagen_sandbox_factory(faults={"500": 1.0}, faults_per_body=2)
    async with client_of(gateway, clock, retry=RetryPolicy(on_ambiguous="retry")) as client:
        outcome = await client.generate("a fox")
    assert outcome.ok
    assert len(outcome.attempts) == 2
    assert clock.slept == [0.25, 0.5]


async def test_failures_before_and_after_sending_are_told_apart(
    imagen_sandbox_factory: SandboxFactory, clock: FakeClock
) -> None:
    gateway = await imagen_sandbox_factory(faults={"disconnect": 1.0})
    once = RetryPolicy(max_attempts=1)
    async with client_of(gateway, clock, retry=once) as client:
        with pytest.raises(DisconnectedError) as after:
            await client.generate("a fox")
        await gateway.aclose()
        with pytest.raises(ConnectError) as before:
            await client.generate("a fox")
    assert (before.value.sent, after.value.sent) == (False, True)
    assert str(before.value.attempts[0].failure) == "never_sent"
    assert str(after.value.attempts[0].failure) == "ambiguous"


async def test_no_connection_is_a_connection_error_and_a_timeout_a_timeout_error(loop_clock: LoopClock) -> None:
    once = RetryPolicy(max_attempts=1)
    async with serving(None) as server, ImagenClient(KEY, server.base_url, retry=once) as client:
        job = asyncio.create_task(client.generate("a fox"))
        await until(lambda: server.open)
        await loop_clock.jump(301.0)
        with pytest.raises(TimeoutError) as late:
            await job
    async with ImagenClient(KEY, server.base_url, retry=once) as client:
        with pytest.raises(ConnectionError) as refused:
            await client.generate("a fox")
    assert (type(late.value), type(refused.value)) == (TimeoutExceededError, ConnectError)


@pytest.mark.parametrize("error", [ConnectError("refused"), TimeoutExceededError("read", 300.0, sent=True)], ids=type)
async def test_such_an_error_of_the_source_reaches_the_consumer(
    error: ImagenError, imagen_sandbox: SandboxGateway, clock: FakeClock, tmp_path: Path
) -> None:
    async def source() -> AsyncIterator[str]:
        yield "a fox"
        raise error

    async with client_of(imagen_sandbox, clock) as client:
        for results in (client.stream(source()), Batch(client, source(), output=tmp_path)):
            with pytest.raises(type(error)) as caught:
                async with results:
                    async for outcome in results:
                        assert outcome.ok
            assert caught.value is error


# -- the key stays in one place --------------------------------------------------------------------------------------


def shown(error: BaseException) -> str:
    """Return everything that a report of an error could show, with the locals of every frame of ours."""
    report = traceback.TracebackException.from_exception(error, capture_locals=True)
    frames = [frame for frame in report.stack if f"{os.sep}imagen_async{os.sep}" in frame.filename]
    assert frames
    words = traceback.format_exception(error)
    return "".join([*words, told(error), *(str(frame.locals) for frame in frames)])


def told(error: BaseException) -> str:
    """Return the text of an error in all its forms."""
    return f"{error!r} {error} {vars(error)}"


@pytest.mark.parametrize("fault", ["400-blocked", "401", "500", "disconnect", "truncate", "html-in-200", "no-iend"])
async def test_no_failure_shows_the_key(
    fault: str, imagen_sandbox_factory: SandboxFactory, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    asyncio.get_running_loop().set_debug(True)
    gateway = await imagen_sandbox_factory(faults={fault: 1.0})
    async with client_of(gateway, clock, retry=RetryPolicy(max_attempts=1)) as client:
        with pytest.raises(ImagenError) as caught:
            await client.generate("a fox")
        assert SANDBOX_KEY not in shown(caught.value)
        assert SANDBOX_KEY not in repr(client) + repr(client.limiter)
    assert SANDBOX_KEY not in caplog.text


ECHOES = {
    "in a refusal": reply(b'{"error": {"message": "Incorrect API key provided: ' + KEY.encode() + b'"}}', status=401),
    "in a page": reply(b"<html>" + KEY.encode(), status=400, headers=f"x-request-id: {KEY}\r\n"),
    "in a good answer": reply(b'{"error": {"message": "The key ' + KEY.encode() + b' is odd"}}'),
}


@pytest.mark.parametrize("where", ECHOES)
async def test_a_key_that_the_gateway_repeats_is_in_no_error(where: str, clock: FakeClock) -> None:
    once = RetryPolicy(max_attempts=1)
    async with (
        serving(answer(ECHOES[where])) as server,
        ImagenClient(KEY, server.base_url, retry=once, _runtime=clock.runtime()) as client,
    ):
        with pytest.raises(ImagenError) as caught:
            await client.generate("a fox")
        with pytest.raises(ImagenError) as of_models:
            await client.list_models()
    assert "***" in str(caught.value)
    assert KEY not in told(caught.value)
    assert KEY not in shown(caught.value) + shown(of_models.value)


async def test_a_failed_connection_shows_no_key(clock: FakeClock) -> None:
    async with serving(None) as server:
        url = server.base_url
    async with ImagenClient(KEY, url, retry=RetryPolicy(max_attempts=1), _runtime=clock.runtime()) as client:
        with pytest.raises(TransportError) as caught:
            await client.generate("a fox")
    assert KEY not in shown(caught.value)
