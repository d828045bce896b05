"""One request and its response: sends, then reads the body as it arrives. Every failure is a typed error.

The timeouts count waits for the gateway only: what this machine does with a body between two reads, or a disk that
stalls meanwhile, counts in none.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol, Self

import aiohttp

from imagen_async.exceptions import ImagenError, printable
from imagen_async.transport.aiohttp_internals import DirectBody, Take, borrowed, unread
from imagen_async.transport.errors import InFlight
from imagen_async.transport.timeouts import Deadline, Timeouts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from imagen_async._secrets import Mask

__all__ = ["Response", "Sender", "Take"]

_DECODED = frozenset({"", "identity", "gzip", "deflate", "br", "zstd"})
"""Encodings that aiohttp decodes, or names in its error if a library is missing."""
_LOOK = 0.2
"""Seconds between two looks at whether a connection is lost: after an invalid chunk aiohttp's reader reports neither
EOF nor an error."""


class Sender(Protocol):
    """The part of `Transport` that a response needs."""

    timeouts: Timeouts
    mask: Mask
    owns_session: bool
    internals: bool
    memory: bytearray

    async def send(
        self, method: str, path: str, body: bytes | None, headers: Mapping[str, str], flight: InFlight, /
    ) -> aiohttp.ClientResponse:
        """Send one request; aiohttp's errors pass."""
        ...


class Response:
    """A request, and its response once entered with ``async with``; made by `Transport`.

    Attributes:
        status: The HTTP status.
        here: Whether the whole body had arrived with the headers.
        headers: The response's headers, with the key masked.
        mask: Removes the key from the body's texts.
    """

    status: int
    here: bool
    headers: Mapping[str, str]
    _response: aiohttp.ClientResponse

    def __init__(
        self, transport: Sender, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> None:
        self._transport = transport
        self._request = (method, path, body, headers)
        self.mask = transport.mask
        self._deadline = Deadline(transport.timeouts)
        traced = transport.owns_session
        self._flight = InFlight(transport.timeouts, self.mask, self._deadline, sent=not traced, traced=traced)
        self._direct: DirectBody | None = None
        self._broken: Exception | None = None

    async def __aenter__(self) -> Self:
        flight = self._flight
        try:
            self._response = response = await self._deadline.wait(
                # In a caller's session aiohttp has the timeout for connecting, because nothing reports the departure.
                "connect" if flight.traced else "read",
                self._transport.send(*self._request, flight),
            )
        except BaseException as error:
            flight.translate(error)
            raise
        flight.received = 0
        self.status = response.status
        self.headers = _MaskedHeaders(response.headers, self.mask)
        self._content = response.content
        self.here = self._content.is_eof()
        if self._transport.internals:
            self._direct = borrowed(response, self._transport.memory, self._deadline)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A body that was not read to its end costs the connection.
        self._response.release() if self._content.at_eof() else self._response.close()
        if error is not None:
            self._flight.clean(error)

    @property
    def packed(self) -> str | None:
        """The encoding, by its header, that the body still has because aiohttp cannot decode it; or None."""
        encoding = self.headers.get("Content-Encoding", "").strip()
        return None if encoding.lower() in _DECODED else printable(encoding, 80)

    def hold(self) -> None:
        """Leave the rest of the body in the system's buffers until it is read, if it can be left there."""
        if self._direct is not None:
            self._direct.hold()

    async def pump(self, take: Take) -> bool:
        """Pass chunks of the body to `take` as they arrive, until `take` pauses; a pause slows the gateway down.

        Args:
            take: Called in the event loop.

        Returns:
            Whether more may be to come.

        Raises:
            TransportError: The connection broke, or a timeout ran out.
            Exception: Raised by `take`.
        """
        flight, content, direct = self._flight, self._content, self._direct
        assert flight.received is not None, "the response has its headers"  # noqa: S101 - for the type
        try:
            if direct is not None:
                try:
                    return await direct.pump(take)
                finally:
                    flight.received = direct.received
            if content.is_eof() and content.exception() is None:
                chunk = content.read_nowait(-1)  # no wait, so no timer
            else:
                chunk = await self._next()
            flight.received += len(chunk)
            if chunk:
                take(chunk, len(chunk))
            return bool(chunk) and not content.at_eof()
        except BaseException as error:
            flight.translate(error)
            raise

    async def read(self) -> bytes:
        """Return the next bytes of the body as they arrive, or none at its end.

        Raises:
            TransportError: As `pump`.
        """
        chunks: list[bytes] = []

        def take(chunk: bytes | bytearray, size: int) -> bool:
            chunks.append(bytes(chunk[:size]))
            return True

        await self.pump(take)
        return chunks[0] if chunks else b""

    async def head(self, limit: int) -> bytes:
        """Return the first `limit` bytes of the body, or fewer if it ends or breaks before."""
        parts: list[bytes] = []
        left = limit
        try:
            while left > 0 and (chunk := await self.read()):
                parts.append(chunk[:left])
                left -= len(parts[-1])
        except ImagenError:
            pass  # the status is the error; the text adds detail
        return b"".join(parts)

    async def _next(self) -> bytes:
        if self._broken is not None:
            raise self._broken
        try:
            return await self._deadline.wait("read", self._parsed())
        except Exception as error:
            self._broken = error
            # What arrived before the fault is paid for.
            if chunk := self._rest():
                return chunk
            raise

    def _rest(self) -> bytes:
        if self._transport.internals:
            return unread(self._content)
        return b"" if self._content.exception() is not None else self._content.read_nowait()

    async def _parsed(self) -> bytes:
        """Return the next bytes from aiohttp's reader."""
        while True:
            look = asyncio.timeout(_LOOK)
            try:
                async with look:
                    return await self._content.readany()
            except TimeoutError:
                if not look.expired():
                    raise
                self._check_connection()
            except RuntimeError:  # aiohttp's, for a connection that was lost before this wait
                self._check_connection()
                raise

    def _check_connection(self) -> None:
        connection, content = self._response.connection, self._content
        lost = connection is not None and connection.transport is None
        if not lost or content.is_eof() or content.exception() is not None:
            return
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        # A deflated body that is cut off is one of the ends that aiohttp does not report.
        decoding = encoding in _DECODED - {"", "identity"}
        raise aiohttp.ClientPayloadError(
            f"Can not decode content-encoding: {encoding}" if decoding else "the connection closed on invalid HTTP"
        )


class _MaskedHeaders(Mapping[str, str]):
    """Headers without the key; only a header that is read is searched for it."""

    def __init__(self, headers: Mapping[str, str], mask: Mask) -> None:
        self._headers = headers
        self._mask = mask

    def __getitem__(self, name: str) -> str:
        return self._mask(self._headers[name])

    def get(self, name: str, default: Any = None, /) -> Any:
        """Return a header or the default; Mapping's own raises and catches an error for each missing header."""
        text = self._headers.get(name)
        return default if text is None else self._mask(text)

    def __iter__(self) -> Iterator[str]:
        return iter(self._headers)

    def __len__(self) -> int:
        return len(self._headers)
