"""The canned gateway of tiny images: one thread, one prebuilt response of about 1.5 KB, in a process of its own.

It must cost as little as it can, because it shares the machine with what is measured. `benchmarks.server` has a thread
a connection, which is right for answers of megabytes; an answer that is one packet is answered from a loop, at a third
of the cost. It speaks as much of HTTP/1.1 as a client with keep-alive and a body of known length needs, and ends when
its standard input does.
"""

from __future__ import annotations

import asyncio
import base64
import json
import random
import re
import struct
import sys
import zlib

__all__ = ["Conversation", "answer", "main", "tiny_png"]

SIDE = 18
"""Pixels: with three random bytes each, a file of 1,058 bytes."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def tiny_png() -> bytes:
    """Make a valid PNG of about 1 KB, the same each time.

    Example:
        >>> len(tiny_png())
        1058
    """
    noise = random.Random(0)
    rows = b"".join(b"\0" + noise.randbytes(3 * SIDE) for _ in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def answer() -> bytes:
    """Return the whole response, with status line and headers."""
    coded = base64.b64encode(tiny_png()).decode("ascii")
    body = json.dumps({"created": 1_700_000_000, "data": [{"b64_json": coded}]}).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode("ascii") + body


class Conversation(asyncio.Protocol):
    """Answers each request of one connection with the same bytes.

    Args:
        answer: These bytes.
    """

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self._transport: asyncio.WriteTransport | None = None
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the connection."""
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - the loop's contract
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answer each request that has arrived completely."""
        assert self._transport is not None  # noqa: S101 - the loop's contract
        self._received += data
        while (end := _end_of_request(self._received)) is not None:
            self._received = self._received[end:]
            self._transport.write(self._answer)


def _end_of_request(received: bytes) -> int | None:
    head = received.find(b"\r\n\r\n")
    if head < 0:
        return None
    length = _LENGTH.search(received, 0, head)
    end = head + 4 + (int(length[1]) if length else 0)
    return end if len(received) >= end else None


async def _serve() -> None:
    loop, canned = asyncio.get_running_loop(), answer()
    server = await loop.create_server(lambda: Conversation(canned), "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"url": f"http://127.0.0.1:{port}"}), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)


def main() -> None:
    """Listen on a free port, print ``{"url": …}``, and serve until standard input ends."""
    asyncio.run(_serve())


if __name__ == "__main__":
    main()
