"""Sends responses over a socket, in the manner that a fault asks for.

The only module that uses aiohttp's responses and the transport under them.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterator

import attrs
from aiohttp import web

from imagen_async.sandbox.responses import Manner, SandboxResponse

__all__ = ["Delivery"]

CHUNK = 256 * 1024
JOINED = 64 * 1024
PARTS = 16


@attrs.define(kw_only=True, eq=False)
class Delivery:
    """Sends one response.

    Attributes:
        request: The request.
        response: What to send.
        request_id: The value of ``x-request-id``.
        sleep: Waits for a number of seconds.
        slow_s: Seconds over which a slow response is sent.
        stall_s: Seconds of silence of a stall.
        sent: Bytes of the body passed to the socket so far.
    """

    request: web.Request = attrs.field(repr=False)
    response: SandboxResponse = attrs.field(repr=False)
    request_id: str
    sleep: Callable[[float], Awaitable[object]] = attrs.field(repr=False)
    slow_s: float
    stall_s: float
    sent: int = attrs.field(default=0, init=False)

    @property
    def images(self) -> int:
        """Number of valid images that were sent completely."""
        return self.response.body.images_in(self.sent)

    async def run(self) -> web.StreamResponse:
        """Send the response; a client that disconnects ends it without an error."""
        stream = self._stream()
        try:
            await self._sender()(stream)
        except ConnectionError:
            self._hang_up()
        return stream

    def _stream(self) -> web.StreamResponse:
        stream = web.StreamResponse(status=self.response.status, headers=dict(self.response.headers))
        stream.headers["x-request-id"] = self.request_id
        stream.content_type = self.response.content_type
        return stream

    def _sender(self) -> Callable[[web.StreamResponse], Awaitable[None]]:
        return {
            Manner.WHOLE: self._whole,
            Manner.TRUNCATED: self._truncated,
            Manner.TRUNCATED_CLOSE: self._truncated_close,
            Manner.TRUNCATED_CHUNKED: self._truncated_chunked,
            Manner.DISCONNECT: self._disconnect,
            Manner.SLOW: self._slow,
            Manner.STALL: self._stall,
        }[self.response.manner]

    async def _whole(self, stream: web.StreamResponse) -> None:
        stream.content_length = self.response.body.size
        await stream.prepare(self.request)
        await self._write(stream, _chunks(self.response.body.pieces))
        await stream.write_eof()

    async def _slow(self, stream: web.StreamResponse) -> None:
        size = self.response.body.size
        stream.content_length = size
        await stream.prepare(self.request)
        for part in _chunks((b"".join(self.response.body.pieces),), math.ceil(size / PARTS)):
            await self.sleep(self.slow_s / PARTS)
            await self._write(stream, iter((part,)))
        await stream.write_eof()

    async def _stall(self, stream: web.StreamResponse) -> None:
        stream.content_length = self.response.body.size
        await stream.prepare(self.request)
        # aiohttp sends headers with the first write of the body; an empty write sends them alone.
        await stream.write(b"")
        await self.sleep(self.stall_s)
        self._hang_up()

    async def _truncated(self, stream: web.StreamResponse) -> None:
        stream.content_length = self.response.body.size
        await self._half(stream)

    async def _truncated_chunked(self, stream: web.StreamResponse) -> None:
        stream.enable_chunked_encoding()
        await self._half(stream)

    async def _half(self, stream: web.StreamResponse) -> None:
        await stream.prepare(self.request)
        await self._write(stream, _chunks((self._first_half(),)))
        self._hang_up()

    async def _truncated_close(self, _: web.StreamResponse) -> None:
        # aiohttp sends a body without a length in chunks; only the transport can send one without framing.
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {self.response.content_type}\r\nx-request-id: {self.request_id}\r\n"
            "Connection: close\r\n\r\n"
        )
        half = self._first_half()
        if self.request.transport is not None:
            self.request.transport.write(head.encode() + half)
            self.sent = len(half)
        self._hang_up()

    async def _disconnect(self, _: web.StreamResponse) -> None:
        self._hang_up()

    def _first_half(self) -> bytes:
        return b"".join(self.response.body.pieces)[: self.response.body.size // 2]

    async def _write(self, stream: web.StreamResponse, chunks: Iterator[bytes | memoryview]) -> None:
        for chunk in chunks:
            await stream.write(chunk)
            self.sent += len(chunk)

    def _hang_up(self) -> None:
        if self.request.transport is not None:
            self.request.transport.close()


def _chunks(pieces: tuple[bytes, ...], size: int = CHUNK) -> Iterator[bytes | memoryview]:
    """Yield a body in writes of at most `size` bytes; a small body in one write."""
    if len(pieces) > 1 and sum(map(len, pieces)) <= JOINED:
        pieces = (b"".join(pieces),)
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), size):
            yield view[at : at + size]
