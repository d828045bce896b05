"""The gateway with a hidden limit, in a process of its own: it works on what it takes, refuses the rest, and counts.

What it takes is answered with a small PNG after `LATENCY`, 20 % more or less by a seed; what it refuses, with 429 at
once. Its seconds count from the first request. It ends when its standard input does, and prints what it counted. It
knows nothing of the contenders.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import random
import re
import sys
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from http import HTTPStatus

import attrs

from benchmarks.pacing.rows import LATENCY, Row, find
from benchmarks.picture import SMALLEST, png

__all__ = ["Counted", "main"]

PATH = b"/v1/images/generations"
JITTER = 0.2
ON_THE_WAY = 0.05
"""Seconds for which a request may have been under way when a 429 left: a round trip of the loopback, loops busy."""

_HEAD_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

Answer = Callable[[bytes], None]


@attrs.frozen(kw_only=True)
class Counted:
    """What the gateway saw.

    Attributes:
        accepted: Requests that it worked on.
        refused: Requests that it answered with 429.
        early: Requests that came although a Retry-After, given more than a round trip before, had not passed.
        most: The maximum of concurrent requests.
        most_after: When that was first so.
        last: When its last response left.
        accepted_by_second: Accepted requests in each second.
        refused_by_second: Refused requests in each second.
    """

    accepted: int
    refused: int
    early: int
    most: int
    most_after: float
    last: float
    accepted_by_second: str
    refused_by_second: str


class Gateway:
    """Takes or refuses.

    Args:
        row: The limit.
        clock: Gives seconds that only go up.
        later: Calls a function after some seconds.
        draw: Gives a random number, 0 to 1.
    """

    def __init__(
        self,
        row: Row,
        *,
        clock: Callable[[], float],
        later: Callable[[float, Callable[[], None]], object],
        draw: Callable[[], float],
    ) -> None:
        self._row = row
        self._way = row.way(row.limit)
        self._clock = clock
        self._later = later
        self._draw = draw
        self._began: float | None = None
        self._told: deque[float] = deque()
        self._busy = self._most = self._early = 0
        self._most_after = self._last = 0.0
        self._accepted: Counter[int] = Counter()
        self._refused: Counter[int] = Counter()
        self._image, self._refusal = _image(), _refusal(row.retry_after)

    def asked(self, answer: Answer) -> None:
        """Answer a request after its work, or refuse it immediately."""
        now = self._now()
        self._early += self._is_early(now)
        refused_at_random = self._row.at_random > self._draw()
        if refused_at_random or not self._way.takes(now, busy=self._busy):
            self._refuse(now, answer)
        else:
            self._work(now, answer)

    def counted(self) -> Counted:
        """Return the counts so far."""
        seconds = max([*self._accepted, *self._refused], default=-1) + 1
        return Counted(
            accepted=self._accepted.total(),
            refused=self._refused.total(),
            early=self._early,
            most=self._most,
            most_after=round(self._most_after, 3),
            last=round(self._last, 3),
            accepted_by_second=" ".join(str(self._accepted[second]) for second in range(seconds)),
            refused_by_second=" ".join(str(self._refused[second]) for second in range(seconds)),
        )

    def _now(self) -> float:
        now = self._clock()
        if self._began is None:
            self._began = now
        return now - self._began

    def _is_early(self, now: float) -> bool:
        """Return whether a Retry-After that the sender can know is still running."""
        while self._told and self._told[0] + (self._row.retry_after or 0) <= now:
            self._told.popleft()
        return bool(self._told) and self._told[0] + ON_THE_WAY < now

    def _refuse(self, now: float, answer: Answer) -> None:
        self._refused[int(now)] += 1
        if self._row.retry_after is not None:
            self._told.append(now)
        self._last = now
        answer(self._refusal)

    def _work(self, now: float, answer: Answer) -> None:
        self._accepted[int(now)] += 1
        self._busy += 1
        if self._busy > self._most:
            self._most, self._most_after = self._busy, now
        self._later(LATENCY * (1.0 + JITTER * (2.0 * self._draw() - 1.0)), partial(self._done, answer))

    def _done(self, answer: Answer) -> None:
        self._busy -= 1
        self._last = self._now()
        answer(self._image)


class Conversation(asyncio.Protocol):
    """One connection: HTTP/1.1, kept alive, bodies of a known length."""

    def __init__(self, asked: Callable[[Answer], None]) -> None:
        self._asked = asked
        self._unread = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way back."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what a TCP server is given
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Pass on every request that is whole."""
        self._unread += data
        while (end := _end(self._unread)) is not None:
            path, self._unread = self._unread.split(maxsplit=2)[1], self._unread[end:]
            if path == PATH:
                self._asked(self._answer)
            else:
                self._answer(_whole({"error": {"message": "no such path"}}, HTTPStatus.NOT_FOUND))

    def _answer(self, whole: bytes) -> None:
        # A client may have left; that is its right.
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(whole)


def _end(unread: bytes) -> int | None:
    """Return where the first request ends, or None while it is not whole."""
    head = unread.find(_HEAD_END)
    if head < 0:
        return None
    length = _LENGTH.search(unread, 0, head)
    end = head + len(_HEAD_END) + (int(length[1]) if length else 0)
    return end if end <= len(unread) else None


def _image() -> bytes:
    coded = base64.b64encode(png(SMALLEST)).decode("ascii")
    return _whole({"created": 1_700_000_000, "data": [{"b64_json": coded}]})


def _refusal(retry_after: int | None) -> bytes:
    error = {"message": "Rate limit reached", "type": "requests", "code": "rate_limit_exceeded"}
    named = "" if retry_after is None else f"Retry-After: {retry_after}\r\n"
    return _whole({"error": error}, HTTPStatus.TOO_MANY_REQUESTS, named)


def _whole(body: object, status: HTTPStatus = HTTPStatus.OK, headers: str = "") -> bytes:
    """Put body and head together."""
    text = json.dumps(body, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status.value} {status.phrase}\r\n{headers}"
        f"Content-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    )
    return head.encode("ascii") + text


async def serve(row: Row, seed: int) -> Counted:
    """Listen on a free port, print ``{"url": …}``, and serve until standard input ends."""
    loop = asyncio.get_running_loop()
    gateway = Gateway(row, clock=loop.time, later=loop.call_later, draw=random.Random(seed).random)
    server = await loop.create_server(lambda: Conversation(gateway.asked), "127.0.0.1", 0, backlog=1024)
    print(json.dumps({"url": f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"}), flush=True)
    await asyncio.to_thread(sys.stdin.buffer.read)
    server.close()
    return gateway.counted()


def main() -> None:
    """Serve, and then print one JSON object: what was `Counted`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing.server", description=__doc__)
    parser.add_argument("row", type=find)
    parser.add_argument("--quick", action="store_true", help="the row's quick form")
    parser.add_argument("--seed", type=int, default=0, help="of latencies and random refusals (%(default)s)")
    options = parser.parse_args()
    row = options.row.quick() if options.quick else options.row
    print(json.dumps(attrs.asdict(asyncio.run(serve(row, options.seed)))))


if __name__ == "__main__":
    main()
