"""Sends answers over a socket, in every manner that faults know.

The one place that touches aiohttp's responses and the transport under them; what to send was decided before.
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
DRIPS = 16


@attrs.define(kw_only=True, eq=False)
class Delivery:
    """One answer on its way.

    Attributes:
        request: The request that it answers.
        answer: What to send.
        request_id: Goes into ``x-request-id``.
        sleep: Waits for seconds.
        slow_s: Seconds over which a slow answer drips.
        stall_s: Seconds of silence of a stall.
        sent: Bytes of the body handed to the socket so far.
    """

    request: web.Request = attrs.field(repr=False)
    answer: SandboxResponse = attrs.field(repr=False)
    request_id: str
    sleep: Callable[[float], Awaitable[object]] = attrs.field(repr=False)
    slow_s: float
    stall_s: float
    sent: int = attrs.field(default=0, init=False)

    @property
    def images(self) -> int:
        """Good images that left whole."""
        return self.answer.body.images_in(self.sent)

    async def run(self) -> web.StreamResponse:
        """Send it; a client that goes away ends it without an error."""
        response = self._response()
        try:
            await self._way()(response)
        except ConnectionError:
            self._hang_up()
        return response

    def _response(self) -> web.StreamResponse:
        response = web.StreamResponse(status=self.answer.status, headers=dict(self.answer.headers))
        response.headers["x-request-id"] = self.request_id
        response.content_type = self.answer.content_type
        return response

    def _way(self) -> Callable[[web.StreamResponse], Awaitable[None]]:
        return {
            Manner.WHOLE: self._whole,
            Manner.TRUNCATED: self._truncated,
            Manner.TRUNCATED_CLOSE: self._truncated_close,
            Manner.TRUNCATED_CHUNKED: self._truncated_chunked,
            Manner.DISCONNECT: self._disconnect,
            Manner.SLOW: self._slow,
            Manner.STALL: self._stall,
        }[self.answer.manner]

    async def _whole(self, response: web.StreamResponse) -> None:
        response.content_length = self.answer.body.size
        await response.prepare(self.request)
        await self._write(response, _chunks(self.answer.body.pieces))
        await response.write_eof()

    async def _slow(self, response: web.StreamResponse) -> None:
        size = self.answer.body.size
        response.content_length = size
        await response.prepare(self.request)
        for drip in _chunks((b"".join(self.answer.body.pieces),), math.ceil(size / DRIPS)):
            await self.sleep(self.slow_s / DRIPS)
            await self._write(response, iter((drip,)))
        await response.write_eof()

    async def _stall(self, response: web.StreamResponse) -> None:
        response.content_length = self.answer.body.size
        await response.prepare(self.request)
        # Headers wait for the body's first write unless they are sent on their own.
        await response.write(b"")
        await self.sleep(self.stall_s)
        self._hang_up()

    async def _truncated(self, response: web.StreamResponse) -> None:
        response.content_length = self.answer.body.size
        await self._half(response)

    async def _truncated_chunked(self, response: web.StreamResponse) -> None:
        response.enable_chunked_encoding()
        await self._half(response)

    async def _half(self, response: web.StreamResponse) -> None:
        await response.prepare(self.request)
        await self._write(response, _chunks((self._first_half(),)))
        self._hang_up()

    async def _truncated_close(self, _: web.StreamResponse) -> None:
        # aiohttp turns a body without a length into chunks; only the bare transport can leave it open-ended.
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Type: {self.answer.content_type}\r\nx-request-id: {self.request_id}\r\n"
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
        return b"".join(self.answer.body.pieces)[: self.answer.body.size // 2]

    async def _write(self, response: web.StreamResponse, chunks: Iterator[bytes | memoryview]) -> None:
        for chunk in chunks:
            await response.write(chunk)
            self.sent += len(chunk)

    def _hang_up(self) -> None:
        if self.request.transport is not None:
            self.request.transport.close()


def _chunks(pieces: tuple[bytes, ...], size: int = CHUNK) -> Iterator[bytes | memoryview]:
    """Yield a body's pieces in writes of at most `size` bytes; a small body in one."""
    if len(pieces) > 1 and sum(map(len, pieces)) <= JOINED:
        pieces = (b"".join(pieces),)
    for piece in pieces:
        view = memoryview(piece)
        for at in range(0, len(view), size):
            yield view[at : at + size]
