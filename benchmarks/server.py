"""The canned gateway: answers every request with the same prebuilt body, in a process of its own.

It must cost as little as it can, because it shares the machine with what is measured: a thread a connection, one
`sendall` an answer (which holds no lock of the interpreter), no JSON. It speaks HTTP/1.1 with keep-alive on the
loopback and two dialects: ``POST /v1/images/generations`` (OpenAI's) and ``POST …:predict`` (Google's). It ends when
its standard input does, so that no crash of its starter leaves it behind. It knows nothing of the contenders.
"""

from __future__ import annotations

import argparse
import base64
import json
import socket
import sys
import threading
import time
from http import HTTPStatus
from typing import BinaryIO

from benchmarks.picture import png

__all__ = ["Gate", "main"]

LONGEST_LINE = 65_536
MOST_CONNECTIONS = 1_024


class Gate:
    """Keeps answers back until `hold` requests wait, so that all of them answer at once; then it stays open.

    A client that never has so many in flight gets its answers after `patience` seconds.
    """

    def __init__(self, hold: int, *, patience: float = 10.0) -> None:
        self._hold = hold
        self._patience = patience
        self._waiting = 0
        self._lock = threading.Lock()
        self._open = threading.Event()

    def wait(self) -> None:
        """Block until the gate is open."""
        with self._lock:
            self._waiting += 1
            if self._waiting >= self._hold:
                self._open.set()
        self._open.wait(self._patience)
        self._open.set()


class Gateway:
    """Answers on every connection to `listener` until the process ends."""

    def __init__(self, *, image: bytes, n: int, latency: float, hold: int) -> None:
        coded = base64.b64encode(image).decode("ascii")
        self._openai = _whole(_json({"created": 1_700_000_000, "data": [{"b64_json": coded}] * n}))
        self._google = _whole(_json({"predictions": [{"mimeType": "image/png", "bytesBase64Encoded": coded}] * n}))
        self._lost = _whole(_json({"error": {"message": "no such path"}}), HTTPStatus.NOT_FOUND)
        self._latency = latency
        self._gate = Gate(hold)

    def serve(self, listener: socket.socket) -> None:
        """Accept for ever."""
        while True:
            connection, _ = listener.accept()
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._converse, args=(connection,), daemon=True).start()

    def _converse(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream:
            try:
                while (path := _read_request(stream)) is not None:
                    connection.sendall(self._answer(path))
            except OSError:
                return  # the client left; that is its right

    def _answer(self, path: str) -> bytes:
        if path.endswith(":predict"):
            answer = self._google
        elif path == "/v1/images/generations":
            answer = self._openai
        else:
            return self._lost
        self._gate.wait()
        if self._latency:
            time.sleep(self._latency)
        return answer


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
    """Listen on a free port, print ``{"url": …}``, and serve until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.server", description=__doc__)
    parser.add_argument("--size", type=int, default=1_500_000, help="bytes of an image (%(default)s)")
    parser.add_argument("--n", type=int, default=1, help="images an answer (%(default)s)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before an answer (%(default)s)")
    parser.add_argument("--hold", type=int, default=1, help="answer nobody until so many wait (%(default)s)")
    options = parser.parse_args()
    gateway = Gateway(image=png(options.size), n=options.n, latency=options.latency, hold=options.hold)
    with socket.create_server(("127.0.0.1", 0), backlog=MOST_CONNECTIONS) as listener:
        threading.Thread(target=gateway.serve, args=(listener,), daemon=True).start()
        print(json.dumps({"url": f"http://127.0.0.1:{listener.getsockname()[1]}"}), flush=True)
        sys.stdin.buffer.read()


if __name__ == "__main__":
    main()
