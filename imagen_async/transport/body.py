"""The rest of a body, straight from its connection into whoever takes it.

Behind its headers, a body whose length they tell is nothing but so many bytes: no parser has to look at them, and no
queue has to hold them until somebody reads. So the connection is borrowed from aiohttp until the body has ended. Every
read goes into the same block of memory, which therefore stays in the processor's cache, and brings no byte beyond the
body's end: what a gateway says behind it is for the connection's next user to notice. While nobody takes, the
connection is paused, and the rest waits with the system.

All means are public ones: `asyncio.Transport.set_protocol` and `asyncio.BufferedProtocol`, and of aiohttp
`ClientResponse.connection`, `ResponseHandler.set_response_params` and `StreamReader.feed_eof`, after which it gives the
connection to the next request.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_proto import ResponseHandler

    from imagen_async.transport.watch import Watch

__all__ = ["DirectBody", "Take", "borrowed"]

Take = Callable[[bytes | bytearray, int], bool]
"""Takes so many bytes from the front of what it is given, where others stand as soon as it has returned.

It says whether it wants a rest.
"""

_IDENTITY = frozenset({"", "identity"})


def borrowed(
    response: aiohttp.ClientResponse, memory: bytearray, *, patience: float | None, watch: Watch
) -> DirectBody | None:
    """Borrow the connection of an answer that has a body to come.

    Args:
        response: The answer; its headers are in.
        memory: What each read goes into; its length is the most that one brings. Others may use it, too.
        patience: Seconds that may pass between two reads; None for no limit.
        watch: Ends the waits that take too long.

    Returns:
        None where it has to be read through aiohttp: its length is not known, it is packed, or it is all here.
    """
    connection, length = response.connection, _length(response.headers)
    if connection is None or length is None or connection.transport is None or connection.protocol is None:
        return None
    content = response.content
    # What aiohttp has held back from its parser cannot be had any more.
    held_back = content.total_bytes > content.get_read_buffer_limits()[1]
    if content.is_eof() or content.exception() is not None or held_back or content.total_bytes >= length:
        return None
    return DirectBody(
        content,
        transport=connection.transport,
        owner=connection.protocol,
        length=length,
        memory=memory,
        patience=patience,
        watch=watch,
    )


def _length(headers: Mapping[str, str]) -> int | None:
    packed = headers.get("Content-Encoding", "").strip().lower() not in _IDENTITY
    told = headers.get("Content-Length", "")
    return int(told) if told.isdecimal() and "Transfer-Encoding" not in headers and not packed else None


class DirectBody(asyncio.BufferedProtocol):
    """A borrowed connection; made by `borrowed`, and given back when the body has ended or the connection is lost."""

    def __init__(
        self,
        content: aiohttp.StreamReader,
        *,
        transport: asyncio.Transport,
        owner: ResponseHandler,
        length: int,
        memory: bytearray,
        patience: float | None,
        watch: Watch,
    ) -> None:
        self._content = content
        self._transport = transport
        self._owner = owner
        self._length = length
        self._left = length - content.total_bytes
        self._memory = memory
        self._patience = math.inf if patience is None else patience
        self._watch = watch
        self._loop = watch.loop
        self._moved_at, self._until = 0.0, math.inf
        self._take: Take | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._first = content.read_nowait(-1) if content.total_bytes else b""
        transport.set_protocol(self)

    def hold(self) -> None:
        """Let the rest of the body wait with the system until somebody takes it."""
        self._transport.pause_reading()

    @property
    def taken(self) -> int:
        """Bytes of the body that were given to whoever takes them."""
        return self._length - self._left - len(self._first)

    async def pump(self, take: Take, *, until: float = math.inf) -> bool:
        """Give what comes to `take`, as it comes, until that wants a rest or the body has ended.

        Args:
            take: Called in the event loop with the next bytes.
            until: When to give up, by the event loop's clock.

        Returns:
            Whether there is more to come.

        Raises:
            aiohttp.ClientError: The connection was lost, or nothing came for too long.
            TimeoutError: It is time to give up.
            Exception: Whatever `take` raised.
        """
        if self._first:
            first, self._first = self._first, b""
            if take(first, len(first)) and self._left:
                self.hold()
                return True
        if not self._left:
            return False
        if (lost := self._content.exception()) is not None:
            raise lost
        self._waiter, self._take = self._loop.create_future(), take
        self._moved_at, self._until = self._loop.time(), until
        self._watch.begin(self)
        self._transport.resume_reading()
        try:
            return await self._waiter
        finally:
            self._rest()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Say where the next bytes go: never more of them than belong to the body."""
        del sizehint
        return memoryview(self._memory)[: self._left]

    def buffer_updated(self, count: int) -> None:
        """Pass on what has come."""
        self._left -= count
        self._moved_at = self._loop.time()
        try:
            if self._take is None:  # also on a transport that had begun to read when it was paused
                self._first += self._memory[:count]
                self.hold()
            tired = self._take is not None and self._take(self._memory, count)
        except Exception as error:  # noqa: BLE001 - it is raised in `pump`, to whom it belongs
            self._end_if_all_is_here()
            self._wake(error)
        else:
            self._end_if_all_is_here()
            if tired or not self._left:
                self._wake(self._left > 0)

    def look(self, now: float) -> float:
        """End the wait if it is time; return when to look again, which is not moved with each read."""
        given_up = self._moved_at + self._patience
        if now >= self._until:
            self._wake(TimeoutError())
        elif now >= given_up:
            self._wake(aiohttp.SocketTimeoutError("nothing came for too long"))
        else:
            return min(given_up, self._until)
        return math.inf

    def eof_received(self) -> None:
        """Leave it to the transport to close, as aiohttp does."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Let aiohttp say what that means."""
        self._owner.connection_lost(exc)
        self._wake(self._content.exception() or aiohttp.ClientPayloadError("the connection was lost"))

    def pause_writing(self) -> None:
        """Pass it on."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._owner.resume_writing()

    def _end_if_all_is_here(self) -> None:
        if not self._left:
            # A fresh parser: the old one would take what the gateway says next for the rest of this body.
            self._owner.set_response_params()
            self._transport.set_protocol(self._owner)
            self._content.feed_eof()

    def _wake(self, what: bool | BaseException) -> None:  # noqa: FBT001 - a future's result
        if self._waiter is None or self._waiter.done():
            return
        if isinstance(what, BaseException):
            self._waiter.set_exception(what)
        else:
            self._waiter.set_result(what)
        if self._left:
            self.hold()

    def _rest(self) -> None:
        self._take = self._waiter = None
        self._watch.end(self)
        if self._left:
            self.hold()
