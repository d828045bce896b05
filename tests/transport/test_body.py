"""A body of known length goes past aiohttp's parser, and its connection goes back to aiohttp unharmed."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, cast

import aiohttp
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import DisconnectedError
from imagen_async.transport.aiohttp_internals import DirectBody
from imagen_async.transport.timeouts import Deadline, Timeouts
from imagen_async.transport.transport import Transport
from imagen_async.transport.url import gateway_url
from tests.clock import settle, until
from tests.fallback import BOTH
from tests.servers import answer, reply, serving

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler

    from imagen_async.transport.transport import Response

internals_only = pytest.mark.parametrize("_both_ways", BOTH[:-1], indirect=True)
"""For tests of the connection that is borrowed from aiohttp."""

PATH = "/images/generations"
BODY = bytes(range(256)) * 4096


async def transport_to(base_url: str, connector: aiohttp.BaseConnector | None = None) -> Transport:
    transport = Transport(gateway_url(base_url, allow_http=True), "key", timeouts=Timeouts(), connector=connector)
    await transport.open()
    return transport


async def body_of(answering: Response, *, tired_after: int = 2**30) -> bytes:
    """All of a body, with a rest whenever so many bytes have come."""
    data = bytearray()
    since = 0

    def take(chunk: bytes | bytearray, size: int) -> bool:
        nonlocal since
        data.extend(chunk[:size])
        since += size
        return since >= tired_after

    while await answering.pump(take):
        since = 0
    return bytes(data)


class FakeTransport(asyncio.Transport):
    """Notes who owns it and whether it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.reads = True
        self.owner: asyncio.BaseProtocol | None = None

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.owner = protocol

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True


class FakeOwner:
    """As much of aiohttp's protocol as a `StreamReader` and a borrower need."""

    def __init__(self, transport: FakeTransport) -> None:
        self._transport = transport
        self._reading_paused = False
        self.ready = False

    def pause_reading(self) -> None:
        self._reading_paused = True
        self._transport.pause_reading()

    def set_response_params(self) -> None:
        assert not self.ready
        self.ready = True

    def resume_reading(self, *, resume_parser: bool = True) -> None:
        del resume_parser
        self._reading_paused = False
        self._transport.resume_reading()


def deliver(direct: DirectBody, body: bytes, at: int, count: int) -> int:
    """Let up to `count` bytes come, and return where the next ones begin."""
    room = direct.get_buffer(-1)
    count = min(count, len(room))
    room[:count] = body[at : at + count]
    if count:
        direct.buffer_updated(count)
    return at + count


@given(data=st.data(), length=st.integers(2, 400), memory=st.integers(1, 64))
def test_however_a_body_comes_all_of_it_is_taken_in_order_and_no_byte_more(
    data: st.DataObject, length: int, memory: int
) -> None:
    body = bytes(number % 251 for number in range(length))
    before = data.draw(st.integers(0, length - 1), label="with the headers")

    async def run() -> None:
        transport = FakeTransport()
        owner = FakeOwner(transport)
        content = aiohttp.StreamReader(cast("ResponseHandler", owner), 2**16)
        content.feed_data(body[:before])
        direct = DirectBody(
            content,
            transport,
            cast("ResponseHandler", owner),
            length=length,
            memory=bytearray(memory),
            deadline=Deadline(Timeouts()),
        )
        taken = bytearray()

        def take(chunk: bytes | bytearray, size: int) -> bool:
            taken.extend(chunk[:size])
            return data.draw(st.booleans(), label="tired")

        at, more = before, True
        while more:
            if data.draw(st.booleans(), label="too late for the pause"):
                at = deliver(direct, body, at, data.draw(st.integers(0, 3), label="of it"))
            pumping = asyncio.ensure_future(direct.pump(take))
            await settle()
            while not pumping.done():
                assert transport.reads
                assert transport.owner is direct
                assert len(direct.get_buffer(-1)) <= length - at
                at = deliver(direct, body, at, data.draw(st.integers(1, memory), label="come"))
                await settle()
            more = pumping.result()
            assert taken == body[:at]
            assert more is (at < length)
            assert transport.reads is not more
        assert cast("object", transport.owner) is owner
        assert owner.ready
        assert content.at_eof()

    asyncio.run(run())


@internals_only
async def test_many_bodies_come_over_one_connection() -> None:
    async with serving(answer(reply(BODY))) as server:
        transport = await transport_to(server.base_url)
        for tired_after in (2**30, 2**16, 1):
            async with transport.post(PATH, b"{}", {}) as answering:
                assert answering._direct is not None
                assert await body_of(answering, tired_after=tired_after) == BODY
        assert server.connections == 1
        await transport.close()


@internals_only
async def test_over_tls_it_is_the_same() -> None:
    authority = trustme.CA()
    there, here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(there)
    authority.configure_trust(here)
    async with serving(answer(reply(BODY)), tls=there) as server, aiohttp.TCPConnector(ssl=here) as connector:
        url = server.base_url.replace("http:", "https:")
        transport = await transport_to(url, connector)
        for tired_after in (2**30, 2**16):
            async with transport.post(PATH, b"{}", {}) as answering:
                assert answering._direct is not None
                assert await body_of(answering, tired_after=tired_after) == BODY
        assert server.connections == 1
        await transport.close()


@internals_only
async def test_what_waits_is_not_read() -> None:
    async with serving(answer(reply(BODY))) as server:
        transport = await transport_to(server.base_url)
        async with transport.post(PATH, b"{}", {}) as answering:
            assert answering._direct is not None
            answering.hold()
            assert not answering._direct._transport.is_reading()
            await settle()
            assert len(answering._direct._first) < len(BODY)
            assert await body_of(answering) == BODY
        await transport.close()


@internals_only
async def test_what_comes_before_anybody_takes_it_is_kept_and_the_rest_waits() -> None:
    async with serving(answer(reply(BODY))) as server:
        transport = await transport_to(server.base_url)
        async with transport.post(PATH, b"{}", {}) as answering:
            direct = answering._direct
            assert direct is not None
            transport.memory = direct._memory = bytearray(2**12)
            await until(lambda: not direct._transport.is_reading())
            await settle()
            assert len(direct._first) < len(BODY)
            assert await body_of(answering) == BODY
        async with transport.post(PATH, b"{}", {}) as answering:
            assert await body_of(answering) == BODY
        assert server.connections == 1
        await transport.close()


@pytest.mark.parametrize(
    "raw",
    [
        b"HTTP/1.1 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        reply(b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03KLJ\x06\x00\xc2A$5\x03\x00\x00\x00",
              headers="Content-Encoding: gzip\r\n"),
        reply(b"abc"),
    ],
    ids=["of unknown length", "in chunks", "packed", "here already"],
)  # fmt: skip
async def test_what_needs_a_parser_goes_through_it(raw: bytes) -> None:
    async with serving(answer(raw, close=True)) as server:
        transport = await transport_to(server.base_url)
        async with transport.post(PATH, b"{}", {}) as answering:
            assert answering._direct is None
            assert await body_of(answering) == b"abc"
        await transport.close()


@internals_only
async def test_an_error_of_who_takes_ends_the_reading_and_the_connection() -> None:
    def refuse(*_: object) -> bool:
        raise LookupError("not this")

    async with serving(answer(reply(BODY))) as server:
        transport = await transport_to(server.base_url)
        with pytest.raises(LookupError, match="not this"):
            async with transport.post(PATH, b"{}", {}) as answering:
                await answering.pump(lambda *_: True)
                await answering.pump(refuse)
        async with transport.post(PATH, b"{}", {}) as answering:
            assert await body_of(answering) == BODY
        assert server.connections == 2
        await transport.close()


async def test_a_body_that_breaks_says_where() -> None:
    async with serving(answer(reply(BODY, length=len(BODY) + 10), close=True)) as server:
        transport = await transport_to(server.base_url)
        with pytest.raises(DisconnectedError, match="cut off") as caught:
            async with transport.post(PATH, b"{}", {}) as answering:
                await body_of(answering)
        assert caught.value.offset == len(BODY)
        await transport.close()
