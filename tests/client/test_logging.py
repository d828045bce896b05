"""The logger ``imagen_async``: retries, pauses and stops, without key, prompt and the gateway's words."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest

from imagen_async import Batch, ImagenClient, ImagenError, ImageRequest, StoreError
from tests.clients import KEY, outcomes_of
from tests.clock import FakeClock
from tests.pictures import png
from tests.servers import Asked, answer, body_of, reply, serving
from tests.spying import SpyStore

if TYPE_CHECKING:
    import asyncio
    from pathlib import Path

PROMPT = "a red fox \x1b[31m in the snow"
ECHO = b'{"error": {"message": "no \\u001b[31m for ' + PROMPT[:9].encode() + b" of " + KEY.encode() + b'"}}'


def client_of(url: str) -> ImagenClient:
    return ImagenClient(KEY, url, _runtime=FakeClock().runtime(lambda: 0.5))


def records(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == level]


@pytest.fixture(autouse=True)
def _every_level(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "imagen_async")


async def test_a_retry_is_logged_with_its_class_and_status(caplog: pytest.LogCaptureFixture) -> None:
    said = [reply(ECHO, status=502, headers="x-request-id: r-7\r\n"), reply(body_of(png()))]

    async def respond(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(said.pop(0))

    async with serving(respond) as server, client_of(server.base_url) as client:
        await client.generate(ImageRequest(PROMPT, id="fox\n1"))
    assert records(caplog, logging.INFO) == [
        "fox\\n1: attempt 1: OverloadedError, HTTP 502, request id r-7; next in 0.2 s"
    ]
    (detail,) = records(caplog, logging.DEBUG)
    assert "no \\x1b[31m for a red fox of ***" in detail


async def test_no_connection_is_logged_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(None) as server:
        pass
    async with client_of(server.base_url) as client:
        with pytest.raises(ImagenError):
            await client.generate(PROMPT)
    assert all("ConnectError: cannot connect to the gateway" in line for line in records(caplog, logging.INFO))
    assert len(records(caplog, logging.INFO)) == 4


async def test_a_pause_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    said = [reply(ECHO, status=429, headers="Retry-After: 7\r\n"), reply(body_of(png()))]

    async def respond(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(said.pop(0))

    async with serving(respond) as server, client_of(server.base_url) as client:
        await client.generate(PROMPT)
    assert "the gateway asked for a pause of 7.0 s" in records(caplog, logging.INFO)


async def test_what_stops_everything_is_logged_once_as_a_warning(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    async with serving(answer(reply(ECHO, status=401))) as server, client_of(server.base_url) as client:
        with pytest.raises(ImagenError):
            await outcomes_of(client, [PROMPT] * 5)
        with pytest.raises(ImagenError):
            async with Batch(client, [PROMPT] * 5, output=tmp_path) as batch:
                async for _ in batch:
                    pass
    assert records(caplog, logging.WARNING) == ["nothing more is sent: AuthenticationError, HTTP 401"] * 2


async def test_a_store_that_stops_everything_is_named(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(answer(reply(body_of(png())))) as server, client_of(server.base_url) as client:
        with pytest.raises(StoreError):
            await client.generate(PROMPT, store=SpyStore(fails="commit"))
    assert records(caplog, logging.WARNING) == ["nothing more is sent: StoreError: the disk is full"]


async def test_nothing_at_any_level_shows_the_key_and_nothing_at_info_the_prompt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    statuses = [200, 400, 401, 404, 408, 429, 500, 503]
    for status in statuses:
        async with serving(answer(reply(ECHO, status=status))) as server, client_of(server.base_url) as client:
            with pytest.raises(ImagenError):
                await client.generate(PROMPT)
    assert len(caplog.records) >= len(statuses)
    assert all(line.getMessage().isprintable() and KEY not in line.getMessage() for line in caplog.records)
    shown = [record.getMessage() for record in caplog.records if record.levelno >= logging.INFO]
    assert not [line for line in shown if PROMPT[:9] in line]


def test_nothing_is_printed_unless_logging_is_configured() -> None:
    assert any(isinstance(handler, logging.NullHandler) for handler in logging.getLogger("imagen_async").handlers)
