"""All uses of what aiohttp does not document: bodies read past its parser, and connections checked before reuse.

`usable` tries each part once when a session opens. If one has changed, or the event loop cannot lend a connection, the
transport uses what aiohttp documents: its reader, and its connector with a new connection for each request.

- `DirectBody`: a body whose length is known needs no parser and no queue. The connection is borrowed from aiohttp until
  the body ends, and each read goes into one block of memory, which therefore stays in the processor's cache. No byte
  beyond the body's end is read, and while nothing is read the rest waits in the system's buffers.
- `Connector`: aiohttp takes whatever lies on a kept connection for the next response. Two responses to one request, or
  one that arrives after its timeout, would become the images of another prompt.
- `unread`: what arrived in one packet with a fault, which aiohttp's reader hides behind the error.

Besides aiohttp's own attributes, they need `asyncio.Transport.set_protocol` with an `asyncio.BufferedProtocol`.
"""

from __future__ import annotations

import asyncio
import inspect
import select
from collections.abc import Callable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import aiohttp

from imagen_async._log import LOG

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp.client_proto import ResponseHandler

    from imagen_async.transport.timeouts import Deadline

__all__ = ["LEAVING", "Connector", "DirectBody", "Take", "borrowed", "unread", "usable"]

Take = Callable[[bytes | bytearray, int], bool]
"""Takes the first bytes of a buffer, which is reused when the call returns; returns whether to pause."""

LEAVING: ContextVar[Callable[[], object] | None] = ContextVar("imagen_leaving", default=None)
"""Called when the request that the current task sends has its connection."""

_HEAD = 2**12
"""Bytes of a read before the body is wanted: of a response that waits, little more than its headers is in memory."""
_IDENTITY = frozenset({"", "identity"})


def usable() -> bool:
    """Return whether aiohttp and the running event loop have what this module uses; warn if aiohttp does not."""
    loop = asyncio.get_running_loop()
    if isinstance(loop, getattr(asyncio, "ProactorEventLoop", ())):  # only Windows has the class
        return False  # it reads ahead of the protocol, into memory of its own
    try:
        _try_all(loop)
    except Exception as error:  # noqa: BLE001 - any difference counts
        LOG.warning(
            "aiohttp %s has changed (%s: %s): its own reader and a new connection for each request are used, which is"
            " slower",
            aiohttp.__version__,
            type(error).__name__,
            error,
        )
        return False
    return True


def _try_all(loop: asyncio.AbstractEventLoop) -> None:
    """Use each part on objects without a connection.

    Raises:
        Exception: A part is missing, or behaves differently.
    """
    from aiohttp.client_proto import ResponseHandler  # noqa: PLC0415 - its absence is one of the changes

    names = list(inspect.signature(aiohttp.TCPConnector.connect).parameters)
    owner = ResponseHandler(loop)
    transport = _Nowhere()
    owner.connection_made(transport)
    idle = owner.should_close
    owner.set_response_params()
    content = aiohttp.StreamReader(owner, 2**16, loop=loop)
    content.feed_data(b"head")
    counted = (content.total_bytes, content.get_read_buffer_limits()[1] > 0)
    content.set_exception(aiohttp.ClientPayloadError())
    rest = unread(content)
    content.feed_eof()
    connection = aiohttp.connector.Connection.protocol, aiohttp.connector.Connection.transport
    found = (names, idle, counted, rest, content.is_eof(), all(connection), owner.transport is transport)
    expected = (["self", "req", "traces", "timeout"], False, (4, True), b"head", True, True, True)
    if found != expected:
        raise TypeError(f"expected {expected}, found {found}")


class _Nowhere(asyncio.Transport):
    """A transport without a connection."""

    def pause_reading(self) -> None:
        """Do nothing."""

    def resume_reading(self) -> None:
        """Do nothing."""


# -- connections ------------------------------------------------------------------------------------------------------


class Connector(aiohttp.TCPConnector):
    """A connector for one gateway; takes the options of aiohttp's own.

    It reuses a connection only if nothing has arrived on it since its last response, and calls `LEAVING` when a request
    has its connection: aiohttp writes next.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakKeyDictionary[ResponseHandler, Callable[[], bool]] = WeakKeyDictionary()
        """By connection, whether the system has bytes of it."""
        self._memory = bytearray(_HEAD)

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> aiohttp.connector.Connection:
        """Return a connection that is new, or silent since its last response."""
        while True:
            connection = await super().connect(req, traces, timeout)
            owner, transport = connection.protocol, connection.transport
            readable = self._used.get(owner) if owner is not None else None
            # Bytes on a new connection belong to TLS.
            if owner is None or readable is None or not (owner.should_close or transport is None or readable()):
                break
            connection.close()
        if owner is not None and transport is not None:
            if readable is None:
                self._used[owner] = _readable(transport)
            transport.set_protocol(_Forwarding(owner, self._memory))
        if (leave := LEAVING.get()) is not None:
            leave()
        return connection


def _readable(transport: asyncio.Transport) -> Callable[[], bool]:
    """Return a check for unread bytes in the system, to be called only while the connection is open."""
    socket = transport.get_extra_info("socket")
    if socket is None:
        return lambda: False
    descriptor = socket.fileno()
    if not hasattr(select, "poll"):  # Windows, whose select takes descriptors of any number
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: bool(poll.poll(0))


class _Forwarding(asyncio.BufferedProtocol):
    """Passes everything on to aiohttp's protocol, in small reads."""

    def __init__(self, owner: ResponseHandler, memory: bytearray) -> None:
        self._owner = owner
        self._memory = memory

    def get_buffer(self, sizehint: int) -> bytearray | memoryview:
        """Return the memory for the next read."""
        del sizehint
        return self._memory

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read."""
        self._owner.data_received(bytes(self._memory[:nbytes]))

    def eof_received(self) -> None:
        """Pass it on; the transport closes itself."""
        self._owner.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on."""
        self._owner.connection_lost(exc)

    def pause_writing(self) -> None:
        """Pass it on."""
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        """Pass it on."""
        self._owner.resume_writing()


# -- bodies -----------------------------------------------------------------------------------------------------------


def borrowed(response: aiohttp.ClientResponse, memory: bytearray, deadline: Deadline) -> DirectBody | None:
    """Return the body of a response, to be read directly from its connection.

    Args:
        response: A response whose headers have arrived.
        memory: Takes each read; its size bounds a read. It may be shared.
        deadline: Enforces the timeouts.

    Returns:
        None if only aiohttp can read the body: its length is unknown, it is encoded, or all of it has arrived.
    """
    connection = response.connection
    if connection is None or (owner := connection.protocol) is None or (transport := connection.transport) is None:
        return None
    if transport.get_protocol() is not owner:
        transport.set_protocol(owner)  # in place of the small reads
    content, length = response.content, _length(response.headers)
    if response.status != 200 or length is None:  # noqa: PLR2004 - the one status with images
        return None
    # What aiohttp has not given to its parser is out of reach.
    withheld = content.total_bytes > content.get_read_buffer_limits()[1]
    if content.is_eof() or content.exception() is not None or withheld or content.total_bytes >= length:
        return None
    return DirectBody(content, transport, owner, length=length, memory=memory, deadline=deadline)


def _length(headers: Mapping[str, str]) -> int | None:
    encoded = headers.get("Content-Encoding", "").strip().lower() not in _IDENTITY
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and "Transfer-Encoding" not in headers and not encoded else None


def unread(content: aiohttp.StreamReader) -> bytes:
    """Return what aiohttp's reader holds behind its error, and clear the error."""
    content.set_exception(None)  # type: ignore[arg-type] # the only way past the error; it is declared without None
    return content.read_nowait()


class DirectBody(_Forwarding):
    """A borrowed connection; aiohttp has it back when the body ends."""

    def __init__(
        self,
        content: aiohttp.StreamReader,
        transport: asyncio.Transport,
        owner: ResponseHandler,
        *,
        length: int,
        memory: bytearray,
        deadline: Deadline,
    ) -> None:
        super().__init__(owner, memory)
        self._content = content
        self._transport = transport
        self._length = length
        self._left = length - content.total_bytes
        self._deadline = deadline
        self._take: Take | None = None
        self._waiter: asyncio.Future[bool] | None = None
        self._first = content.read_nowait(-1) if content.total_bytes else b""
        transport.set_protocol(self)

    def hold(self) -> None:
        """Leave the rest of the body in the system's buffers until `pump`."""
        self._transport.pause_reading()

    @property
    def received(self) -> int:
        """Bytes of the body that were passed to `take`."""
        return self._length - self._left - len(self._first)

    async def pump(self, take: Take) -> bool:
        """Pass bytes to `take` as they arrive, until `take` pauses or the body ends.

        Args:
            take: Called in the event loop with the next bytes.

        Returns:
            Whether more is to come.

        Raises:
            aiohttp.ClientError: The connection was lost.
            DeadlineExceeded: A timeout ran out.
            Exception: Raised by `take`.
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
        self._waiter, self._take = asyncio.get_running_loop().create_future(), take
        self._transport.resume_reading()
        try:
            return await self._deadline.wait("read", self._waiter)
        finally:
            self._take = self._waiter = None
            if self._left:
                self.hold()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return the memory for the next read, never for more than is left of the body."""
        del sizehint
        return memoryview(self._memory)[: self._left]

    def buffer_updated(self, nbytes: int) -> None:
        """Pass on what was read."""
        self._left -= nbytes
        pauses, fault = False, None
        if self._take is None:  # a transport that had begun to read when it was paused
            self._first += self._memory[:nbytes]
            self.hold()
        else:
            try:
                pauses = self._take(self._memory, nbytes)
            except Exception as error:  # noqa: BLE001 - `pump` raises it
                fault = error
        if not self._left:
            # A new parser: the old one would take the next bytes for the rest of this body.
            self._owner.set_response_params()
            self._transport.set_protocol(self._owner)
            self._content.feed_eof()
        if fault is not None:
            self._wake(fault)
        elif pauses or not self._left:
            self._wake(self._left > 0)
        else:
            self._deadline.restart("read")

    def eof_received(self) -> None:
        """Do nothing: the transport closes itself."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass it on, and end the wait."""
        super().connection_lost(exc)
        self._wake(self._content.exception() or aiohttp.ClientPayloadError("the connection was lost"))

    def _wake(self, result: bool | BaseException) -> None:  # noqa: FBT001 - a future's result
        if self._waiter is None or self._waiter.done():
            return
        if isinstance(result, BaseException):
            self._waiter.set_exception(result)
        else:
            self._waiter.set_result(result)
        if self._left:
            self.hold()
