"""A server that says exactly the bytes that a test tells it to, for what no well-kept HTTP server would send."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
from multidict import CIMultiDict

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Iterator

__all__ = ["Asked", "Server", "answer", "body_of", "reply", "serving", "serving_apart"]


@attrs.frozen
class Asked:
    """One request as it came; headers are not shown, they hold the key."""

    method: str
    target: str
    headers: CIMultiDict[str] = attrs.field(repr=False)
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


Handler = Callable[[Asked, asyncio.StreamWriter], Awaitable[None]]


@attrs.define
class Server:
    """A running server.

    Attributes:
        port: Where it listens, on 127.0.0.1.
        connections: How many were made.
        open: How many of them are open.
        asked: Every request, in order.
    """

    port: int = 0
    connections: int = 0
    open: int = 0
    asked: list[Asked] = attrs.field(factory=list)

    @property
    def base_url(self) -> str:
        """What a client is given."""
        return f"http://127.0.0.1:{self.port}/v1"


@asynccontextmanager
async def serving(handler: Handler | None, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Run a server; without a handler it takes connections and says nothing.

    A connection closes when its handler closes it, or at the end.
    """
    server = Server()
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.connections += 1
        server.open += 1
        try:
            while handler is not None and (asked := await _read(reader)) is not None:
                server.asked.append(asked)
                await handler(asked, writer)
                await writer.drain()
            await reader.read()
        except (ConnectionError, asyncio.CancelledError):
            pass
        finally:
            server.open -= 1
            writer.transport.abort()
            # Or asyncio reports a reset by the client as an error that was never retrieved.
            with suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            tasks.discard(task)

    listening = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


@contextmanager
def serving_apart(handler: Handler, *, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server in a thread of its own, for what runs an event loop itself."""
    up: Future[tuple[Server, Callable[[], object]]] = Future()

    async def serve() -> None:
        done = asyncio.Event()
        async with serving(handler, tls=tls) as server:
            up.set_result((server, partial(asyncio.get_running_loop().call_soon_threadsafe, done.set)))
            await done.wait()

    thread = threading.Thread(target=asyncio.run, args=(serve(),), name="server", daemon=True)
    thread.start()
    server, end = up.result()
    try:
        yield server
    finally:
        end()
        thread.join()


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        start, *lines = head.decode("latin-1").split("\r\n")[:-2]
        headers = CIMultiDict[str]()
        for line in lines:
            headers.add(*line.split(": ", 1))
        body = await reader.readexactly(int(headers.get("Content-Length", 0)))
    except asyncio.IncompleteReadError:
        return None
    method, target, _ = start.split(" ")
    return Asked(method, target, headers, body)


def reply(body: bytes, *, status: int = 200, length: int | None = None, headers: str = "") -> bytes:
    """The bytes of an HTTP answer; `headers` are lines, each with its end."""
    size = len(body) if length is None else length
    return f"HTTP/1.1 {status} Said\r\nContent-Length: {size}\r\n{headers}\r\n".encode() + body


def body_of(*images: bytes, created: int = 7) -> bytes:
    """The contract's answer with these images."""
    data = [{"b64_json": base64.b64encode(image).decode()} for image in images]
    return json.dumps({"created": created, "data": data}).encode()


def answer(*parts: bytes, close: bool = False) -> Handler:
    """A handler that says `parts`, each in its own write, to every request."""

    async def handler(_: Asked, writer: asyncio.StreamWriter) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
        if close:
            writer.close()

    return handler
