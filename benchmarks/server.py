"""The canned gateway: answers every request with the same prebuilt body, in a process of its own.

It uses as little CPU as it can, because it shares the machine with the contenders: a thread for each connection, one
`sendall` for each response (which does not hold the interpreter's lock), no JSON. It speaks HTTP/1.1 with keep-alive on
the loopback, over TLS if it gets a certificate, and two dialects: ``POST /v1/images/generations`` (OpenAI's) and
``POST …:predict`` (Google's). It ends when its standard input does, so that it does not outlive its parent.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import socket
import ssl
import sys
import threading
import time
from http import HTTPStatus
from typing import BinaryIO

from benchmarks.picture import SMALLEST, png

__all__ = ["Gate", "main"]

LONGEST_LINE = 65_536
MOST_CONNECTIONS = 4_096
SMALL_LATENCY = 1.0
"""Seconds; so long that a client has as many in flight as it allows itself, and allows itself more."""


class Gate:
    """Holds responses back until `hold` requests wait, so that all responses start together; then stays open.

    A client that never has so many requests in flight gets its responses after `patience` seconds.

    Attributes:
        held: How many waited when it opened.
    """

    def __init__(self, hold: int, *, patience: float = 30.0) -> None:
        self._hold = hold
        self._patience = patience
        self._waiting = 0
        self.held = 0
        self._lock = threading.Lock()
        self._open = threading.Event()

    def wait(self) -> None:
        """Block until the gate is open."""
        with self._lock:
            self._waiting += 1
            full = self._waiting >= self._hold
        if full or not self._open.wait(self._patience):
            self._let_go()

    def _let_go(self) -> None:
        with self._lock:
            self.held = self.held or self._waiting
            self._open.set()


class Gateway:
    """Answers on every connection until the process ends.

    Args:
        image: What is served.
        n: How often the image is in a response.
        latency: Seconds before a response.
        hold: See `Gate`.
        small: So many requests are answered first, after a second, with small images and without the gate. They let a
            client find out how many requests it may have in flight, and open its connections.
        context: For TLS.
    """

    def __init__(
        self,
        *,
        image: bytes,
        n: int,
        latency: float = 0.0,
        hold: int = 1,
        small: int = 0,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._answers = _both_dialects(image, n)
        self._small = _both_dialects(png(SMALLEST), n)
        self._numbers = itertools.count(1 - small)
        self._lost = _whole(_json({"error": {"message": "no such path"}}), HTTPStatus.NOT_FOUND)
        self._latency = latency
        self.gate = Gate(hold)
        self._context = context

    def serve(self, listener: socket.socket) -> None:
        """Accept until the listener is shut down."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        try:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            with connection, connection.makefile("rb") as stream:
                while (path := _read_request(stream)) is not None:
                    connection.sendall(self._answer(path))
        except OSError:
            return  # the client closed the connection

    def _answer(self, path: str) -> bytes:
        google = path.endswith(":predict")
        if not google and path != "/v1/images/generations":
            return self._lost
        if next(self._numbers) <= 0:
            time.sleep(SMALL_LATENCY)
            return self._small[google]
        self.gate.wait()
        if self._latency:
            time.sleep(self._latency)
        return self._answers[google]


def _read_request(stream: BinaryIO) -> str | None:
    """Read one request off the stream, body and all.

    Returns:
        Its path, or None when the client has closed or what it sent is not a request with a length.
    """
    words = stream.readline(LONGEST_LINE).split()
    if len(words) != 3:
        return None
    length = 0
    while (line := stream.readline(LONGEST_LINE)) not in {b"\r\n", b"\n", b""}:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
        elif name.lower() == b"transfer-encoding":
            return None  # no contender sends chunks
    stream.read(length)
    return words[1].decode("latin-1").partition("?")[0]


def _both_dialects(image: bytes, n: int) -> tuple[bytes, bytes]:
    coded = base64.b64encode(image).decode("ascii")
    return (
        _whole(_json({"created": 1_700_000_000, "data": [{"b64_json": coded}] * n})),
        _whole(_json({"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": coded}] * n})),
    )


def _whole(body: bytes, status: HTTPStatus = HTTPStatus.OK) -> bytes:
    """Put the head before `body`."""
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode("ascii") + body


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def main() -> None:
    """Listen on a free port, print ``{"url": …}``, serve until standard input ends, and print ``{"held": …}``."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description=__doc__)
    parser.add_argument("--size", type=int, default=1_500_000, help="bytes of an image (%(default)s)")
    parser.add_argument("--n", type=int, default=1, help="images in a response (%(default)s)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before a response (%(default)s)")
    parser.add_argument("--hold", type=int, default=1, help="answer no request until so many wait (%(default)s)")
    parser.add_argument(
        "--small", type=int, default=0, help="answer so many requests first, with small images (%(default)s)"
    )
    parser.add_argument("--certificate", help="file with key and certificate: speak TLS")
    options = parser.parse_args()
    gateway = Gateway(
        image=png(options.size),
        n=options.n,
        latency=options.latency,
        hold=options.hold,
        small=options.small,
        context=_context(options.certificate) if options.certificate else None,
    )
    scheme = "https" if options.certificate else "http"
    with socket.create_server(("127.0.0.1", 0), backlog=MOST_CONNECTIONS) as listener:
        threading.Thread(target=gateway.serve, args=(listener,), daemon=True).start()
        print(json.dumps({"url": f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
        sys.stdin.buffer.read()
    print(json.dumps({"held": gateway.gate.held}), flush=True)


def _context(certificate: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


if __name__ == "__main__":
    main()
