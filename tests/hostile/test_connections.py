"""Hostile connections: reset while idle, unrequested data, redirects, bad certificates."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
import ssl
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest
import trustme

from imagen_async import (
    Batch,
    ConnectError,
    DisconnectedError,
    ImagenClient,
    ImagenError,
    ProtocolError,
    RedirectedError,
    RetryPolicy,
    Status,
    TimeoutExceededError,
)
from imagen_async.batch.journal import read_status
from imagen_async.exceptions import FailureClass
from imagen_async.transport.aiohttp_internals import Connector
from tests import fallback
from tests.batch.running import errors, metadata, strays
from tests.clients import KEY
from tests.clock import FakeClock, LoopClock, until
from tests.hostile.attacking import FOX, OWL, WHALE, asking, leaving_nothing
from tests.hostile.bodies import FIRST, SECOND
from tests.pictures import encoded
from tests.servers import answer, body_of, reply, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.servers import Asked, Handler, Server

PICTURES = {OWL: FIRST, FOX: SECOND, WHALE: encoded("JPEG")}
"""What each prompt is answered with; the wrong one is another prompt's."""


def connections(kept: int, *, one_each: int) -> int:
    """How many connections a server sees: without aiohttp's internals, each request has its own."""
    return one_each if fallback.in_use() else kept


def good(prompt: str) -> bytes:
    return reply(body_of(PICTURES[prompt]))


async def pictured(client: ImagenClient, prompt: str) -> bytes | None:
    return (await client.generate(prompt)).images[0].data


async def failed(client: ImagenClient, prompt: str) -> ImagenError:
    with pytest.raises(ImagenError) as caught:
        await client.generate(prompt)
    return caught.value


# -- a connection that breaks while it is idle ------------------------------------------------------------------------


def reset(writer: asyncio.StreamWriter) -> None:
    """Reset a connection, so that the next send on it fails."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def test_a_kept_connection_that_is_reset_as_we_send_is_in_doubt_and_not_sent_again(tmp_path: Path) -> None:
    async def stale(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.json["prompt"] == OWL:
            writer.write(good(OWL))
        else:
            reset(writer)

    async with leaving_nothing(), serving(stale) as server, asking(server, max_concurrency=1) as client:
        async with Batch(client, [OWL, FOX], output=tmp_path, fsync=False, ordered=True) as batch:
            outcomes = [outcome async for outcome in batch]
        await until(lambda: server.open == 0)
    assert [outcome.status for outcome in outcomes] == [Status.SUCCEEDED, Status.IN_DOUBT]
    assert isinstance(outcomes[1].error, DisconnectedError)
    assert [attempt.failure for attempt in outcomes[1].attempts] == [FailureClass.AMBIGUOUS]
    assert [asked.json["prompt"] for asked in server.asked] == [OWL, FOX]
    assert server.connections == connections(1, one_each=2)
    assert read_status(tmp_path / ".imagen").doubts == len(errors(tmp_path)) == len(metadata(tmp_path)) == 1
    assert strays(tmp_path) == []


async def test_a_kept_connection_that_was_closed_before_we_send_costs_nothing() -> None:
    idle: list[asyncio.StreamWriter] = []

    async def once(asked: Asked, writer: asyncio.StreamWriter) -> None:
        idle.append(writer)
        writer.write(good(asked.json["prompt"]))

    async with leaving_nothing(), serving(once) as server, asking(server) as client:
        assert await pictured(client, OWL) == FIRST
        # The end is in the system, and the event loop has not seen it yet.
        idle[0].get_extra_info("socket").shutdown(socket.SHUT_WR)
        assert await pictured(client, FOX) == SECOND
        assert [asked.json["prompt"] for asked in server.asked] == [OWL, FOX]
        assert server.connections == 2


async def test_a_connection_that_is_reset_while_idle_causes_no_error() -> None:
    idle: list[asyncio.StreamWriter] = []

    async def once(asked: Asked, writer: asyncio.StreamWriter) -> None:
        idle.append(writer)
        said = good(asked.json["prompt"])
        writer.write(said[:100])
        await asyncio.sleep(0.01)
        # A response that arrives complete with its headers returns its connection before it is read.
        writer.write(said[100:])

    async with leaving_nothing(), serving(once) as server, asking(server) as client:
        assert await pictured(client, OWL) == FIRST
        reset(idle[0])
        await until(lambda: server.open == 0)
        assert await pictured(client, FOX) == SECOND
        assert server.connections == 2


# -- more responses than requests -------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["at once", "while it is idle", "not read yet"])
async def test_a_surplus_response_reaches_no_other_request(when: str) -> None:
    idle: list[asyncio.StreamWriter] = []

    async def twice(asked: Asked, writer: asyncio.StreamWriter) -> None:
        idle.append(writer)
        writer.write(good(asked.json["prompt"]) + (good(WHALE) if when == "at once" and len(idle) == 1 else b""))

    async with leaving_nothing(), serving(twice) as server, asking(server) as client:
        assert await pictured(client, OWL) == FIRST
        if when != "at once":
            idle[0].write(good(WHALE))
        if when == "while it is idle":
            await asyncio.sleep(0.01)
        assert await pictured(client, FOX) == SECOND
        assert await pictured(client, FOX) == SECOND
        assert server.connections == connections(2, one_each=3)


async def test_a_server_that_speaks_first_is_not_a_gateway() -> None:
    async def banner(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example ESMTP\r\n")
        await reader.read()
        writer.close()

    async with leaving_nothing(), await asyncio.start_server(banner, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with ImagenClient(
            KEY, f"http://127.0.0.1:{port}", retry=RetryPolicy(max_attempts=1), _runtime=FakeClock().runtime()
        ) as client:
            error = await failed(client, FOX)
    assert isinstance(error, ProtocolError)
    assert error.check == "http"


async def test_a_surplus_response_in_a_batch_reaches_no_other_job(tmp_path: Path) -> None:
    async def twice(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(good(asked.json["prompt"]) + good(WHALE) * 3)

    async with (
        leaving_nothing(),
        serving(twice) as server,
        asking(server, max_concurrency=1) as client,
        Batch(client, [OWL, FOX] * 5, output=tmp_path, fsync=False) as batch,
    ):
        statuses = [outcome.status async for outcome in batch]
    assert statuses == [Status.SUCCEEDED] * 10
    for line in metadata(tmp_path):
        assert (tmp_path / line["file_name"]).read_bytes() == PICTURES[line["prompt"]]


async def test_a_response_after_its_timeout_reaches_no_other_request(loop_clock: LoopClock) -> None:
    slow: list[asyncio.StreamWriter] = []

    async def late(asked: Asked, writer: asyncio.StreamWriter) -> None:
        if asked.json["prompt"] == WHALE:
            slow.append(writer)
        else:
            writer.write(good(asked.json["prompt"]))

    async with leaving_nothing(), serving(late) as server, asking(server) as client:
        assert await pictured(client, OWL) == FIRST
        waiting = asyncio.ensure_future(failed(client, WHALE))
        await until(lambda: slow)
        assert server.connections == connections(1, one_each=2)
        await loop_clock.jump(301.0)
        assert isinstance(await waiting, TimeoutExceededError)
        slow[0].write(good(WHALE))
        assert await pictured(client, FOX) == SECOND
        slow[0].write(good(WHALE))
        assert await pictured(client, FOX) == SECOND
        assert server.connections == connections(2, one_each=4)


# -- elsewhere --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_stops_everything_and_is_not_followed(status: int, tmp_path: Path) -> None:
    async with leaving_nothing(), serving(answer(good(FOX))) as elsewhere:
        there = f"http://127.0.0.2:{elsewhere.port}/v1/images/generations"
        said = reply(b"<html>moved</html>", status=status, headers=f"Location: {there}\r\n")
        async with (
            serving(answer(said)) as server,
            asking(server, max_concurrency=1) as client,
            Batch(client, [OWL, FOX, WHALE], output=tmp_path, fsync=False) as batch,
        ):
            with pytest.raises(RedirectedError) as caught:
                _ = [outcome async for outcome in batch]
        assert (elsewhere.connections, elsewhere.asked) == (0, [])
    assert len(server.asked) == 1
    assert f"it sends us to {there} (its header Location)" in str(caught.value)
    assert read_status(tmp_path / ".imagen").doubts == 0
    assert (metadata(tmp_path), strays(tmp_path)) == ([], [])


# -- certificates -----------------------------------------------------------------------------------------------------


AUTHORITY = trustme.CA()
PAST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
CERTIFICATES = {
    "good": AUTHORITY.issue_cert("127.0.0.1"),
    "expired": AUTHORITY.issue_cert("127.0.0.1", not_before=PAST - dt.timedelta(days=1), not_after=PAST),
    "of another host": AUTHORITY.issue_cert("gateway.example"),
    "of an unknown authority": trustme.CA().issue_cert("127.0.0.1"),
}
TOLD = {
    "expired": "certificate has expired",
    "of another host": "IP address mismatch",
    "of an unknown authority": "unable to get local issuer",
}


@asynccontextmanager
async def over_tls(handler: Handler, certificate: str) -> AsyncIterator[Server]:
    """A server that speaks TLS with one of the certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    CERTIFICATES[certificate].configure_cert(context)
    async with serving(handler, tls=context) as server:
        yield server


@asynccontextmanager
async def trusting(server: Server, **options: Any) -> AsyncIterator[ImagenClient]:
    """A client that trusts one authority; the connector is of the kind that a client makes for itself."""
    context = ssl.create_default_context()
    AUTHORITY.configure_trust(context)
    async with Connector(ssl=context) as connector:
        url = server.base_url.replace("http:", "https:")
        async with ImagenClient(KEY, url, connector=connector, _runtime=FakeClock().runtime(), **options) as client:
            yield client


@pytest.mark.parametrize("certificate", TOLD)
async def test_to_a_gateway_with_a_bad_certificate_not_a_byte_is_sent(certificate: str, tmp_path: Path) -> None:
    once = RetryPolicy(max_attempts=1)
    async with leaving_nothing(), over_tls(answer(good(FOX)), certificate) as server:
        async with trusting(server, retry=once) as client, Batch(client, [FOX], output=tmp_path, fsync=False) as batch:
            (outcome,) = [outcome async for outcome in batch]
        await until(lambda: server.open == 0)
        assert server.asked == []
    assert isinstance(outcome.error, ConnectError)
    assert TOLD[certificate] in str(outcome.error)
    assert outcome.status is Status.FAILED
    assert [attempt.failure for attempt in outcome.attempts] == [FailureClass.NEVER_SENT]
    assert read_status(tmp_path / ".imagen").doubts == 0
    assert [line["sent"] for line in errors(tmp_path)] == [False]


async def test_over_tls_a_good_certificate_serves_and_its_connection_is_kept() -> None:
    async with (
        leaving_nothing(),
        over_tls(answer(good(FOX)), "good") as server,
        trusting(server) as client,
    ):
        assert [await pictured(client, FOX) for _ in range(3)] == [SECOND] * 3
        assert server.connections == 1
