"""An aiohttp that has changed inside costs speed and nothing else, and a caller's connection keeps nothing of ours."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.client_proto import ResponseHandler

from imagen_async.transport import aiohttp_internals
from tests.fallback import BOTH
from tests.servers import answer, reply, serving
from tests.transport.test_body import BODY, body_of
from tests.transport.test_transport import PATH, transport_to

if TYPE_CHECKING:
    from imagen_async.transport.transport import Transport

pytestmark = pytest.mark.parametrize("_both_ways", BOTH[:-1], indirect=True)  # with the internals only


class OursNoMore:
    """An attribute that only aiohttp itself still has."""

    def __init__(self, former: Any) -> None:
        self._former = former

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        if not str(sys._getframe(1).f_globals.get("__name__")).startswith("aiohttp"):
            raise AttributeError("it has another name now")
        return self._former.__get__(instance, owner)

    def __set__(self, instance: object, value: object) -> None:
        self._former.__set__(instance, value)


USED: list[tuple[type, str]] = [
    (aiohttp.connector.Connection, "protocol"),
    (ResponseHandler, "should_close"),
    (ResponseHandler, "set_response_params"),
    (aiohttp.StreamReader, "total_bytes"),
    (aiohttp.StreamReader, "get_read_buffer_limits"),
    (aiohttp.StreamReader, "set_exception"),
    (aiohttp.StreamReader, "feed_eof"),
]


async def all_of(transport: Transport) -> bytes:
    async with transport.post(PATH, b"{}", {}) as response:
        return await body_of(response)


@pytest.mark.parametrize(("kind", "name"), USED)
async def test_an_attribute_that_is_gone_is_noticed_before_anything_is_sent(
    kind: type, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(kind, name, OursNoMore(kind.__dict__[name]))
    async with serving(answer(reply(BODY))) as server, transport_to(server.base_url) as transport:
        assert await all_of(transport) == BODY
        assert await all_of(transport) == BODY
        assert server.connections == 2  # no connection is kept that is not checked
    (warning,) = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert "aiohttp" in warning.getMessage()


async def test_another_signature_of_connect_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    former = aiohttp.TCPConnector.connect

    async def connect(self: Any, req: Any, traces: Any, timeout: Any, *, more: object = None) -> Any:  # noqa: ASYNC109 - aiohttp's
        del more
        return await former(self, req, traces, timeout)

    monkeypatch.setattr(aiohttp.TCPConnector, "connect", connect)
    async with serving(answer(reply(BODY))) as server, transport_to(server.base_url) as transport:
        assert await all_of(transport) == BODY
        assert not transport.internals


async def test_an_attribute_that_behaves_differently_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aiohttp.StreamReader, "get_read_buffer_limits", lambda _: None)
    assert not aiohttp_internals.usable()


async def test_this_aiohttp_is_usable(caplog: pytest.LogCaptureFixture) -> None:
    assert aiohttp_internals.usable()
    assert not caplog.records


async def test_an_event_loop_that_reads_ahead_of_the_protocol_is_not_used(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.get_running_loop()
    monkeypatch.setattr(asyncio, "ProactorEventLoop", type(loop), raising=False)
    assert not aiohttp_internals.usable()
    assert not caplog.records  # a known limit of the platform, and not a change


# -- what a caller's connection keeps ---------------------------------------------------------------------------------


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"


@pytest.mark.parametrize("said", [reply(BODY), CHUNKED + b"0\r\n\r\n", reply(b"no", status=500)])
@pytest.mark.parametrize("whose", ["connector", "session"])
async def test_a_caller_s_connection_is_given_back_as_it_was(said: bytes, whose: str) -> None:
    made: list[asyncio.BaseProtocol] = []

    class Making(aiohttp.TCPConnector):
        async def connect(self, *args: Any, **options: Any) -> aiohttp.connector.Connection:
            connection = await super().connect(*args, **options)
            assert connection.transport is not None
            assert connection.transport.get_protocol() is connection.protocol
            if connection.protocol not in made:
                made.append(connection.protocol)
                connection.transport.mine = True  # type: ignore[attr-defined] # to see what is set beside it
            return connection

    async with serving(answer(said[:-1], said[-1:])) as server, aiohttp.ClientSession(connector=Making()) as session:
        options = {"session": session} if whose == "session" else {"connector": session.connector}
        async with transport_to(server.base_url, **options) as transport:
            async with transport.post(PATH, b"{}", {}) as response:
                await body_of(response)
            async with session.post(server.base_url) as theirs:  # checked in `connect`, on the same connection
                await theirs.read()
        assert len(made) == server.connections == 1
