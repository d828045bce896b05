from __future__ import annotations

import asyncio
import gc
import socket
import traceback
import weakref
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from imagen_async.exceptions import (
    ConfigurationError,
    ConnectError,
    DisconnectedError,
    ImagenError,
    ProtocolError,
    RejectedError,
    TimeoutExceededError,
    TransportError,
)
from imagen_async.transport.proxy import read_proxy
from imagen_async.transport.timeouts import Timeouts
from imagen_async.transport.transport import Response, Transport
from imagen_async.transport.url import gateway_url
from tests import fallback
from tests.clock import settle, until
from tests.servers import Asked, Server, answer, reply, serving, serving_apart

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.clock import LoopClock

KEY = "sk-" + "t7" * 24
PATH = "/images/generations"
OK = reply(b"{}")


@asynccontextmanager
async def transport_to(
    base_url: str, *, key: str = KEY, proxy: str | None = None, **options: Any
) -> AsyncIterator[Transport]:
    options.setdefault("timeouts", Timeouts())
    url = gateway_url(base_url, allow_http=True)
    if proxy is not None:
        options["proxy"] = read_proxy(proxy, url, allow_http=True)
    transport = Transport(url, key, **options)
    await transport.open()
    try:
        yield transport
    finally:
        await transport.close()


async def all_of(answering: Response) -> list[bytes]:
    """Every chunk of an answer."""
    chunks = []
    while chunk := await answering.read():
        chunks.append(chunk)
    return chunks


async def post(transport: Transport, body: bytes = b"{}", **headers: str) -> tuple[int, bytes]:
    async with transport.post(PATH, body, headers) as answering:
        return answering.status, b"".join(await all_of(answering))


async def failure_of(transport: Transport) -> ImagenError:
    with pytest.raises(ImagenError) as caught:
        await post(transport)
    shown = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert KEY not in shown
    assert KEY not in repr(caught.value)
    return caught.value


# -- what is sent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["", "/", "?key=x", "#part"])
async def test_the_path_is_put_behind_the_base_url_however_it_ends(suffix: str) -> None:
    async with serving(answer(OK)) as server, transport_to(server.base_url + suffix) as transport:
        await post(transport)
        assert server.asked[0].target == "/v1/images/generations"


async def test_a_request_carries_the_contract_s_headers_and_the_body_as_it_is() -> None:
    async with serving(answer(OK)) as server, transport_to(server.base_url) as transport:
        await post(transport, b'{"a": "\xc3\xa9"}', **{"Idempotency-Key": "k-1"})
    (asked,) = server.asked
    assert asked.method == "POST"
    assert asked.body == b'{"a": "\xc3\xa9"}'
    assert asked.headers["Authorization"] == f"Bearer {KEY}"
    assert asked.headers["Content-Type"] == asked.headers["Accept"] == "application/json"
    assert asked.headers["Accept-Encoding"] == "identity"
    assert asked.headers["Idempotency-Key"] == "k-1"
    assert asked.headers["User-Agent"].startswith("imagen-async/")


async def test_the_caller_s_headers_are_added_but_never_beside_ours() -> None:
    mine = {"X-Team": "art", "user-agent": "mine/1", "authorization": "Bearer other"}
    async with serving(answer(OK)) as server, transport_to(server.base_url, headers=mine) as transport:
        await post(transport)
    headers = server.asked[0].headers
    assert headers.getall("X-Team") == ["art"]
    assert headers.getall("User-Agent") == ["mine/1"]
    assert headers.getall("Authorization") == [f"Bearer {KEY}"]


@pytest.mark.parametrize("header", ["X-Bad: a\r\nX-Worse", "bad\nname"])
@pytest.mark.parametrize("where", ["name", "value"])
def test_a_header_that_http_cannot_carry_is_the_caller_s_mistake(header: str, where: str) -> None:
    headers = {header: "x"} if where == "name" else {"X-Mine": header}
    with pytest.raises(ConfigurationError, match="HTTP cannot carry"):
        Transport(URL("https://gateway.example"), KEY, timeouts=Timeouts(), headers=headers)


async def test_no_cookie_of_the_gateway_s_is_kept() -> None:
    async with (
        serving(answer(reply(b"{}", headers="Set-Cookie: route=7; Path=/\r\n"))) as server,
        transport_to(server.base_url.replace("127.0.0.1", "localhost")) as transport,
    ):
        await post(transport)
        await post(transport)
    assert [asked.headers.get("Cookie") for asked in server.asked] == [None, None]


async def test_proxies_named_in_the_environment_are_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving(answer(OK)) as server, transport_to(server.base_url) as transport:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
        assert (await post(transport))[0] == 200


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_an_answer_and_not_followed(status: int) -> None:
    async with serving(answer(OK)) as elsewhere:
        said = reply(b"", status=status, headers=f"Location: {elsewhere.base_url}\r\n")
        async with serving(answer(said)) as server, transport_to(server.base_url) as transport:
            assert (await post(transport))[0] == status
        assert elsewhere.asked == []


# -- sessions and connections -----------------------------------------------------------------------------------------


def test_a_transport_is_made_without_a_loop_and_opens_nothing() -> None:
    transport = Transport(URL("https://gateway.example/v1"), KEY, timeouts=Timeouts())
    assert transport._session is None
    assert KEY not in repr(transport)


async def test_a_transport_that_was_never_opened_can_be_closed_and_sends_nothing() -> None:
    transport = Transport(URL("https://gateway.example/v1"), KEY, timeouts=Timeouts())
    with pytest.raises(ConfigurationError, match="closed"):
        await post(transport)
    await transport.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the first loop ends with an idle connection
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # pytest's wrapping of the same warning
def test_one_transport_serves_one_event_loop_after_another() -> None:
    with serving_apart(answer(OK)) as server:
        transport = Transport(gateway_url(server.base_url), KEY, timeouts=Timeouts())

        async def open_and_post() -> tuple[int, bytes]:
            await transport.open()
            return await post(transport)

        assert [asyncio.run(open_and_post()) for _ in range(3)] == [(200, b"{}")] * 3
        assert server.connections == 3
        asyncio.run(transport.close())
        gc.collect()


async def test_nothing_is_sent_after_closing() -> None:
    async with serving(answer(OK)) as server:
        async with transport_to(server.base_url) as transport:
            await post(transport)
        assert isinstance(await failure_of(transport), ConfigurationError)
        assert len(server.asked) == 1


async def test_a_connection_is_used_again_after_an_answer_that_was_read() -> None:
    async with serving(answer(OK)) as server, transport_to(server.base_url) as transport:
        for _ in range(3):
            await post(transport)
        assert server.connections == (3 if fallback.in_use() else 1)
    await until(lambda: server.open == 0)


async def test_an_answer_that_is_not_read_costs_its_connection() -> None:
    async with serving(answer(reply(b"x" * 10, length=10**6))) as server, transport_to(server.base_url) as transport:
        async with transport.post(PATH, b"{}", {}) as answering:
            assert await answering.head(4) == b"xxxx"
        await until(lambda: server.open == 0)


async def test_the_head_of_a_body_that_breaks_is_what_came_of_it() -> None:
    async with (
        serving(answer(reply(b"half", length=100), close=True)) as server,
        transport_to(server.base_url) as transport,
        transport.post(PATH, b"{}", {}) as answering,
    ):
        assert await answering.head(64) == b"half"


async def test_the_caller_s_session_is_used_and_left_open() -> None:
    async with serving(answer(OK)) as server, aiohttp.ClientSession(headers={"X-Session": "mine"}) as session:
        async with transport_to(server.base_url, session=session) as transport:
            await post(transport)
        assert not session.closed
        assert server.asked[0].headers["X-Session"] == "mine"


async def test_a_session_that_raises_for_status_does_not_hide_the_answer() -> None:
    async with (
        serving(answer(reply(b"slow down", status=429))) as server,
        aiohttp.ClientSession(raise_for_status=True) as session,
        transport_to(server.base_url, session=session) as transport,
    ):
        assert await post(transport) == (429, b"slow down")


async def test_a_session_of_the_caller_s_that_is_closed_is_the_caller_s_mistake() -> None:
    session = aiohttp.ClientSession()
    await session.close()
    async with transport_to("https://gateway.example/v1", session=session) as transport:
        assert isinstance(await failure_of(transport), ConfigurationError)


async def test_the_caller_s_connector_is_used_and_left_open() -> None:
    async with serving(answer(OK)) as server:
        connector = aiohttp.TCPConnector(force_close=True)
        async with transport_to(server.base_url, connector=connector) as transport:
            await post(transport)
            await post(transport)
        assert server.connections == 2
        assert not connector.closed
        await connector.close()


async def test_the_caller_s_hooks_are_called_and_do_not_get_to_see_the_key_by_showing_headers() -> None:
    seen: list[str] = []
    config = aiohttp.TraceConfig()

    async def started(_: object, __: object, params: aiohttp.TraceRequestStartParams) -> None:
        seen.append(f"{params.method} {params.headers!r}")

    config.on_request_start.append(started)
    async with serving(answer(OK)) as server, transport_to(server.base_url, trace_configs=[config]) as transport:
        await post(transport)
    (shown,) = seen
    assert shown.startswith("POST ")
    assert "Authorization" in shown
    assert KEY not in shown


# -- through a proxy --------------------------------------------------------------------------------------------------


async def test_a_proxy_is_asked_for_the_whole_url() -> None:
    async with serving(answer(OK)) as proxy:
        where = f"http://name:word@127.0.0.1:{proxy.port}"
        async with transport_to("http://gateway.invalid/v1", proxy=where) as transport:
            assert (await post(transport))[0] == 200
    (asked,) = proxy.asked
    assert (asked.method, asked.target) == ("POST", "http://gateway.invalid/v1/images/generations")
    assert asked.headers["Proxy-Authorization"].startswith("Basic ")


async def test_https_goes_through_a_proxy_s_tunnel_and_a_refused_tunnel_is_no_connection() -> None:
    async with serving(answer(reply(b"", status=403))) as proxy:
        where = f"http://name:word@127.0.0.1:{proxy.port}"
        async with transport_to("https://gateway.invalid/v1", proxy=where) as transport:
            error = await failure_of(transport)
    assert isinstance(error, ConnectError)
    assert not error.sent
    assert "word" not in str(error)
    (asked,) = proxy.asked
    assert (asked.method, asked.target) == ("CONNECT", "gateway.invalid:443")
    assert "Authorization" not in asked.headers


async def test_a_proxy_that_is_not_there_is_no_connection() -> None:
    where = f"http://name:word@127.0.0.1:{unused_port()}"
    async with transport_to("https://gateway.invalid/v1", proxy=where) as transport:
        error = await failure_of(transport)
    assert isinstance(error, ConnectError)
    assert "word" not in str(error)


# -- failures: what they are, and whether a byte left ------------------------------------------------------------------


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def facts(error: ImagenError) -> tuple[type[ImagenError], bool]:
    assert isinstance(error, TransportError)
    return type(error), error.sent


async def test_a_refused_connection_means_nothing_was_sent() -> None:
    async with transport_to(f"http://127.0.0.1:{unused_port()}/v1") as transport:
        assert facts(await failure_of(transport)) == (ConnectError, False)


class NoNames(AbstractResolver):
    """Knows no name."""

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        raise OSError(f"no such name: {host}, {port}, {family}")

    async def close(self) -> None:
        pass


async def test_a_name_that_is_not_found_means_nothing_was_sent() -> None:
    async with (
        aiohttp.TCPConnector(resolver=NoNames()) as connector,
        transport_to("https://gateway.invalid/v1", connector=connector) as transport,
    ):
        assert facts(await failure_of(transport)) == (ConnectError, False)


async def hang_up(_: Asked, writer: asyncio.StreamWriter) -> None:
    writer.close()


@pytest.mark.parametrize("said", [b"this is not TLS", b""], ids=["no TLS", "hang up"])
async def test_a_failed_tls_handshake_means_nothing_was_sent(said: bytes) -> None:
    async def refuse(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(said)
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        async with transport_to(f"https://127.0.0.1:{port}/v1") as transport:
            error = await failure_of(transport)
    assert isinstance(error, TransportError)
    assert not error.sent


@pytest.fixture(params=["ours", "the caller's"])
async def connector(request: pytest.FixtureRequest) -> AsyncIterator[aiohttp.BaseConnector | None]:
    """Ours tells itself when a request leaves; with another one it is a hook that tells."""
    if request.param == "ours":
        yield None
    else:
        async with aiohttp.TCPConnector() as theirs:
            yield theirs


async def test_a_connection_that_closes_without_an_answer_means_the_request_was_sent(
    connector: aiohttp.BaseConnector | None,
) -> None:
    async with serving(hang_up) as server, transport_to(server.base_url, connector=connector) as transport:
        assert facts(await failure_of(transport)) == (DisconnectedError, True)
    assert len(server.asked) == 1


async def test_a_request_lost_on_a_kept_connection_is_not_silently_asked_again() -> None:
    async def once(asked: Asked, writer: asyncio.StreamWriter) -> None:
        await (answer(OK) if len(server.asked) == 1 else hang_up)(asked, writer)

    async with serving(once) as server, transport_to(server.base_url) as transport:
        await post(transport)
        assert facts(await failure_of(transport)) == (DisconnectedError, True)
    assert (len(server.asked), server.connections) == (2, 2 if fallback.in_use() else 1)


@pytest.mark.parametrize(
    "said",
    [
        reply(b"half", length=100),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
    ],
    ids=["content-length", "chunked", "in a chunk"],
)
async def test_a_body_that_is_cut_off_means_the_request_was_sent(said: bytes) -> None:
    async with serving(answer(said, close=True)) as server, transport_to(server.base_url) as transport:
        assert facts(await failure_of(transport)) == (DisconnectedError, True)


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH_9.6\r\n\r\n", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n"]
)
async def test_an_answer_that_is_no_http_is_the_gateway_s_fault(said: bytes) -> None:
    async with serving(answer(said, close=True)) as server, transport_to(server.base_url) as transport:
        error = await failure_of(transport)
    assert isinstance(error, ProtocolError)
    assert error.check == "http"


async def test_a_body_that_is_not_packed_as_its_header_says_names_the_header() -> None:
    said = reply(b"this is no gzip", headers="Content-Encoding: gzip\r\n")
    async with serving(answer(said)) as server, transport_to(server.base_url) as transport:
        error = await failure_of(transport)
    assert isinstance(error, ProtocolError)
    assert (error.check, error.offset) == ("content-encoding", 0)
    assert "Content-Encoding: gzip" in str(error)


@pytest.mark.parametrize("end", ["cut off", "no chunk"])
async def test_what_had_come_before_a_body_breaks_is_given_before_the_error(end: str) -> None:
    async with dripping() as (server, parts), transport_to(server.base_url) as transport:
        parts.put_nowait(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        async with transport.post(PATH, b"{}", {}) as answering:
            parts.put_nowait(b"4\r\nhalf\r\n5\r\n" + (b"hal" if end == "cut off" else b"other\r\nzz\r\n"))
            wanted = b"halfhal" if end == "cut off" else b"halfother"
            await until(lambda: answering._content.total_bytes == len(wanted))
            if end == "cut off":
                parts.put_nowait(b"")
            connection = answering._response.connection
            await until(lambda: answering._content.exception() is not None or not (connection and connection.transport))
            got = b""
            with pytest.raises(ImagenError) as caught:
                while chunk := await answering.read():
                    got += chunk
            # Without aiohttp's internals, what arrived right before an error is lost.
            assert got == wanted or (fallback.in_use() and wanted.startswith(got))
            assert getattr(caught.value, "offset", None) == len(got)
            with pytest.raises(type(caught.value)):
                await answering.read()


async def test_a_kept_connection_holds_nothing_of_the_answers_that_it_brought() -> None:
    async with dripping() as (server, parts), transport_to(server.base_url) as transport:
        parts.put_nowait(reply(b"", length=2))
        async with transport.post(PATH, b"{}", {}) as answering:
            parts.put_nowait(b"{}")
            assert b"".join(await all_of(answering)) == b"{}"
        gone = weakref.ref(answering)
        del answering
        gc.collect()
        assert gone() is None
        assert server.open == 1


async def test_in_a_session_of_the_caller_s_a_request_may_always_have_been_sent() -> None:
    async with (
        serving(hang_up) as server,
        aiohttp.ClientSession() as session,
        transport_to(server.base_url, session=session) as transport,
    ):
        assert facts(await failure_of(transport)) == (DisconnectedError, True)


async def test_a_gateway_that_repeats_the_key_does_not_get_it_into_an_error() -> None:
    async with serving(answer(OK)) as server, transport_to(server.base_url) as transport:
        with pytest.raises(RejectedError) as caught:
            async with transport.post(PATH, b"{}", {}):
                raise RejectedError(
                    f"Incorrect key: {KEY}.", status=400, code=KEY, request_id=f"for {KEY}", retry_after=1
                )
    error = caught.value
    assert (error.message, error.code, error.request_id) == ("Incorrect key: ***.", "***", "for ***")
    assert KEY not in repr(error) + repr(vars(error))
    assert error.retry_after == 1


async def test_a_key_that_is_a_common_word_does_not_mask_that_word() -> None:
    async with serving(answer(OK)) as server, transport_to(server.base_url, key="none") as transport:
        with pytest.raises(RejectedError, match="none of these"):
            async with transport.post(PATH, b"{}", {}):
                raise RejectedError("none of these", status=400)


# -- time-outs --------------------------------------------------------------------------------------------------------


async def timed_out(failing: asyncio.Task[ImagenError]) -> tuple[str, float, bool]:
    error = await failing
    assert isinstance(error, TimeoutExceededError)
    return error.phase, error.seconds, error.sent


async def test_connecting_has_a_time_out_of_its_own_tls_included(
    loop_clock: LoopClock, connector: aiohttp.BaseConnector | None
) -> None:
    timeouts = Timeouts(connect=10.0, read=300.0, total=900.0)
    async with serving(None) as server:
        url = server.base_url.replace("http://", "https://")
        async with transport_to(url, timeouts=timeouts, connector=connector) as transport:
            failing = asyncio.ensure_future(failure_of(transport))
            await until(lambda: server.connections)
            await loop_clock.jump(8.0)
            assert not failing.done()
            await loop_clock.jump(3.0)
            assert await timed_out(failing) == ("connect", 10.0, False)


async def test_an_attempt_whose_time_is_over_while_it_connects_has_sent_nothing(
    loop_clock: LoopClock, connector: aiohttp.BaseConnector | None
) -> None:
    timeouts = Timeouts(connect=10.0, read=300.0, total=5.0)
    async with serving(None) as server:
        url = server.base_url.replace("http://", "https://")
        async with transport_to(url, timeouts=timeouts, connector=connector) as transport:
            failing = asyncio.ensure_future(failure_of(transport))
            await until(lambda: server.connections)
            await loop_clock.jump(6.0)
            assert await timed_out(failing) == ("total", 5.0, False)


async def test_silence_before_the_answer_has_a_time_out_of_its_own(
    loop_clock: LoopClock, connector: aiohttp.BaseConnector | None
) -> None:
    timeouts = Timeouts(connect=10.0, read=300.0, total=900.0)
    async with (
        serving(answer()) as server,
        transport_to(server.base_url, timeouts=timeouts, connector=connector) as transport,
    ):
        failing = asyncio.ensure_future(failure_of(transport))
        await until(lambda: server.asked)
        await loop_clock.jump(290.0)
        assert not failing.done()
        await loop_clock.jump(12.0)
        assert await timed_out(failing) == ("read", 300.0, True)


@asynccontextmanager
async def dripping() -> AsyncIterator[tuple[Server, asyncio.Queue[bytes]]]:
    """A server whose one answer consists of what is put into a queue; an empty part hangs up."""
    parts: asyncio.Queue[bytes] = asyncio.Queue()

    async def drip(_: Asked, writer: asyncio.StreamWriter) -> None:
        while part := await parts.get():
            writer.write(part)
            await writer.drain()
        writer.close()

    async with serving(drip) as server:
        yield server, parts


async def test_the_read_time_out_is_between_two_reads_and_not_of_the_whole_body(loop_clock: LoopClock) -> None:
    timeouts = Timeouts(read=300.0, total=None)
    async with dripping() as (server, parts), transport_to(server.base_url, timeouts=timeouts) as transport:
        parts.put_nowait(reply(b"0", length=100))
        async with transport.post(PATH, b"{}", {}) as answering:
            assert await answering.read() == b"0"
            for number in (b"1", b"2", b"3"):
                waiting = asyncio.ensure_future(answering.read())
                await settle()
                await loop_clock.jump(250.0)
                parts.put_nowait(number)
                assert await waiting == number
            waiting = asyncio.ensure_future(answering.read())
            await settle()
            await loop_clock.jump(302.0)
            with pytest.raises(TimeoutExceededError) as caught:
                await waiting
    assert (caught.value.phase, caught.value.sent) == ("read", True)


async def test_an_attempt_as_a_whole_has_a_time_out_of_its_own(loop_clock: LoopClock) -> None:
    timeouts = Timeouts(read=300.0, total=900.0)
    async with dripping() as (server, parts), transport_to(server.base_url, timeouts=timeouts) as transport:
        parts.put_nowait(reply(b"0", length=100))
        async with transport.post(PATH, b"{}", {}) as answering:
            assert await answering.read() == b"0"
            for number in (b"1", b"2", b"3"):
                waiting = asyncio.ensure_future(answering.read())
                await settle()
                await loop_clock.jump(250.0)
                parts.put_nowait(number)
                assert await waiting == number
            waiting = asyncio.ensure_future(answering.read())
            await settle()
            await loop_clock.jump(152.0)
            with pytest.raises(TimeoutExceededError) as caught:
                await waiting
    assert (caught.value.phase, caught.value.seconds, caught.value.sent) == ("total", 900.0, True)


async def test_the_time_that_we_take_between_two_reads_is_not_the_gateway_s(loop_clock: LoopClock) -> None:
    timeouts = Timeouts(read=300.0, total=900.0)
    async with dripping() as (server, parts), transport_to(server.base_url, timeouts=timeouts) as transport:
        parts.put_nowait(reply(b"0", length=9))
        async with transport.post(PATH, b"{}", {}) as answering:
            for number in range(1, 9):
                await answering.read()
                await loop_clock.jump(250.0)
                parts.put_nowait(b"%d" % number)
            assert await answering.read() == b"8"
            assert await answering.read() == b""


async def test_none_is_no_time_out(loop_clock: LoopClock) -> None:
    timeouts = Timeouts(connect=None, read=None, total=None)
    async with dripping() as (server, parts), transport_to(server.base_url, timeouts=timeouts) as transport:
        asking = asyncio.ensure_future(post(transport))
        await until(lambda: server.asked)
        await loop_clock.jump(1e6)
        parts.put_nowait(OK)
        assert await asking == (200, b"{}")


async def test_a_time_out_of_the_caller_s_is_the_caller_s_and_closes_the_connection(loop_clock: LoopClock) -> None:
    async with serving(answer()) as server, transport_to(server.base_url) as transport:

        async def impatient() -> None:
            async with asyncio.timeout(20):
                await post(transport)

        waiting = asyncio.ensure_future(impatient())
        await until(lambda: server.asked)
        await loop_clock.jump(21.0)
        with pytest.raises(TimeoutError):
            await waiting
        await until(lambda: server.open == 0)
