"""floor: the least that the task can cost: one blocking socket, one reused buffer, SIMD decoding, a file.

One thread, one connection, one request at a time, no event loop, and of HTTP and JSON only what this gateway sends. It
verifies nothing but the base64 alphabet. What a client costs above it is what it does besides.
"""

from __future__ import annotations

import json
import os
import socket
import ssl
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pybase64

from benchmarks.contenders import KEY, MODEL, Run, Task

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

MARK = b'"b64_json":"'
PIECE = 2**18
"""Characters decoded at a time: a piece stays in the cache between decoding and writing."""


class Line:
    """One connection, and the buffer into which each response is read."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._buffer = bytearray(2**16)

    def ask(self, request: bytes) -> list[memoryview]:
        """Send a request, and yield the base64 of each image, which the caller releases before the next one."""
        self._connection.sendall(request)
        got, end = 0, -1
        while end < 0:
            got = self._more(got, len(self._buffer))
            end = self._buffer.find(b"\r\n\r\n", 0, got)
        stop = end + 4 + _length(bytes(self._buffer[:end]))
        self._buffer += bytes(max(0, stop - len(self._buffer)))
        while got < stop:
            got = self._more(got, stop)
        return self._images(end, stop)

    def _images(self, start: int, stop: int) -> list[memoryview]:
        spans = []
        while (start := self._buffer.find(MARK, start, stop)) >= 0:
            start += len(MARK)
            end = self._buffer.index(b'"', start, stop)
            spans.append(memoryview(self._buffer)[start:end])
        return spans

    def _more(self, got: int, most: int) -> int:
        with memoryview(self._buffer) as view, view[got:most] as free:
            count = self._connection.recv_into(free)
        if not count:
            raise ConnectionError("the gateway closed the connection")
        return got + count


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Run]:
    """Open one connection for the whole run."""
    with _connected(task.url) as connection:
        line = Line(connection)

        async def run(prompts: list[str], out: Path) -> int:
            images = 0
            for number, prompt in enumerate(prompts):
                for index, coded in enumerate(line.ask(_request(prompt, task))):
                    _write(coded, str(out / f"{number}-{index}.png"))
                    coded.release()
                    images += 1
            return images

        yield run


def _connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    connection = socket.create_connection((parts.hostname, parts.port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if parts.scheme == "https":
        return ssl.create_default_context().wrap_socket(connection, server_hostname=parts.hostname)
    return connection


def _request(prompt: str, task: Task) -> bytes:
    body = json.dumps({"model": MODEL, "prompt": prompt, "n": task.n, "response_format": "b64_json"}).encode()
    head = (
        f"POST /v1/images/generations HTTP/1.1\r\nHost: {urlsplit(task.url).netloc}\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def _write(coded: memoryview, path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        for start in range(0, len(coded), PIECE):
            with coded[start : start + PIECE] as piece:
                os.write(file, pybase64.b64decode(piece, validate=True))
    finally:
        os.close(file)


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ConnectionError("the response has no Content-Length")
