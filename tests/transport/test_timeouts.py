"""Settings are checked when they are made, and connecting ends in time whatever is silent."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from imagen_async import FailureClass, TimeoutExceededError
from imagen_async.transport.timeouts import Deadline, DeadlineExceeded, Timeouts
from imagen_async.wire.errors import failure_class
from tests.clock import LoopClock, settle, until
from tests.servers import answer, reply, serving
from tests.transport.test_transport import transport_to

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imagen_async.transport.transport import Transport


class Silent(AbstractResolver):
    """A name server that never answers."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    async def resolve(self, host: str, port: int = 0, family: Any = socket.AF_INET) -> list[ResolveResult]:
        self.asked.set()
        await asyncio.Event().wait()
        raise OSError(f"no answer for {host}, {port}, {family}")

    async def close(self) -> None:
        pass


async def send(transport: Transport) -> TimeoutExceededError:
    with pytest.raises(TimeoutExceededError) as caught:
        async with transport.post("/images/generations", b"{}", {}):
            pass
    return caught.value


async def connect_timeout(sending: asyncio.Future[TimeoutExceededError], clock: LoopClock) -> None:
    """See that a request ends with its connect timeout, and cannot have been billed."""
    await clock.jump(8.0)
    assert not sending.done()
    await clock.jump(3.0)
    error = await sending
    assert (error.phase, error.seconds, error.sent) == ("connect", 10.0, False)
    assert failure_class(error) is FailureClass.NEVER_SENT


LIMITS = [Timeouts(connect=10.0), Timeouts(connect=10.0, read=None, total=None)]


@asynccontextmanager
async def connecting(whose: str, base_url: str, timeouts: Timeouts, **options: Any) -> AsyncIterator[Transport]:
    """A transport with our own session, a caller's connector or a caller's session."""
    resolver: AbstractResolver | None = options.pop("resolver", None)
    if whose == "ours":
        async with transport_to(base_url, timeouts=timeouts, **options) as transport:
            yield transport
    else:
        connector = aiohttp.TCPConnector(resolver=resolver)
        async with aiohttp.ClientSession(connector=connector) as session:
            options |= {"session": session} if whose == "session" else {"connector": connector}
            async with transport_to(base_url, timeouts=timeouts, **options) as transport:
                yield transport


@pytest.mark.parametrize("timeouts", LIMITS, ids=["limited", "unlimited"])
@pytest.mark.parametrize("whose", ["connector", "session"])
async def test_a_silent_name_server_ends_with_the_connect_timeout(
    whose: str, timeouts: Timeouts, loop_clock: LoopClock
) -> None:
    resolver = Silent()
    async with connecting(whose, "https://gateway.example/v1", timeouts, resolver=resolver) as transport:
        sending = asyncio.ensure_future(send(transport))
        await resolver.asked.wait()
        await connect_timeout(sending, loop_clock)


@pytest.mark.parametrize("timeouts", LIMITS, ids=["limited", "unlimited"])
@pytest.mark.parametrize("whose", ["ours", "connector", "session"])
async def test_a_proxy_that_never_answers_connect_ends_with_the_connect_timeout(
    whose: str, timeouts: Timeouts, loop_clock: LoopClock
) -> None:
    async with serving(answer()) as proxy:
        where = f"http://127.0.0.1:{proxy.port}"
        async with connecting(whose, "https://gateway.invalid/v1", timeouts, proxy=where) as transport:
            sending = asyncio.ensure_future(send(transport))
            await until(lambda: proxy.asked)
            await connect_timeout(sending, loop_clock)
        assert [asked.method for asked in proxy.asked] == ["CONNECT"]


@pytest.mark.parametrize("timeouts", LIMITS, ids=["limited", "unlimited"])
@pytest.mark.parametrize("whose", ["ours", "connector", "session"])
async def test_a_tls_handshake_that_never_ends_ends_with_the_connect_timeout(
    whose: str, timeouts: Timeouts, loop_clock: LoopClock
) -> None:
    async with serving(None) as server:
        url = server.base_url.replace("http:", "https:")
        async with connecting(whose, url, timeouts) as transport:
            sending = asyncio.ensure_future(send(transport))
            await until(lambda: server.connections)
            await connect_timeout(sending, loop_clock)


async def test_the_wait_for_a_connection_of_the_caller_s_connector_is_not_time_to_connect(
    loop_clock: LoopClock,
) -> None:
    free = asyncio.Event()

    async def slow(_: object, writer: asyncio.StreamWriter) -> None:
        await free.wait()
        writer.write(reply(b"{}"))

    async with (
        serving(slow) as server,
        aiohttp.TCPConnector(limit=1) as connector,
        transport_to(server.base_url, connector=connector) as transport,
    ):

        async def status() -> int:
            async with transport.post("/images/generations", b"{}", {}) as response:
                await response.read()
                return response.status

        both = asyncio.gather(status(), status())
        await until(lambda: server.asked)
        await loop_clock.jump(60.0)
        assert not both.done()
        free.set()
        assert list(await both) == [200, 200]


# -- the deadline -----------------------------------------------------------------------------------------------------


async def test_a_restart_moves_the_timeout_but_not_the_total(loop_clock: LoopClock) -> None:
    deadline = Deadline(Timeouts(connect=10.0, read=10.0, total=25.0))
    waiting = asyncio.ensure_future(deadline.wait("connect", asyncio.Event().wait()))
    for _ in range(3):
        await settle()
        deadline.restart("read")
        await loop_clock.jump(8.0)
        assert not waiting.done()
    deadline.restart("read")
    await loop_clock.jump(2.0)
    with pytest.raises(DeadlineExceeded) as caught:
        await waiting
    assert caught.value.phase == "total"
    deadline.restart("read")  # the wait is over


async def test_the_time_between_two_waits_does_not_count(loop_clock: LoopClock) -> None:
    deadline = Deadline(Timeouts(read=10.0, total=15.0))
    for _ in range(5):
        waiting = asyncio.ensure_future(deadline.wait("read", asyncio.sleep(2.5, "done")))
        await settle()
        await loop_clock.jump(2.6)
        assert await waiting == "done"
        await loop_clock.jump(100.0)
    with pytest.raises(DeadlineExceeded):
        waiting = asyncio.ensure_future(deadline.wait("read", asyncio.sleep(9, "late")))
        await settle()
        await loop_clock.jump(8.0)
        await waiting


async def test_a_timeout_of_the_thing_that_is_waited_for_is_not_the_deadline_s() -> None:
    async def fail() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await Deadline(Timeouts()).wait("read", fail())
