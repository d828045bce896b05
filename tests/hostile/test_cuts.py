"""A valid response in any framing, cut, split and damaged anywhere: complete images, or a typed error."""

from __future__ import annotations

import asyncio
import gzip
from typing import TYPE_CHECKING

import attrs
from hypothesis import example, given
from hypothesis import strategies as st

from imagen_async import ImagenError, ProtocolError, TransportError
from imagen_async.wire.errors import failure_class
from tests.hostile.attacking import FOX, answered, asking, hostile_gateway
from tests.hostile.bodies import BODY, FIRST, SECOND, in_chunks
from tests.profiles import times
from tests.servers import reply
from tests.strategies import cut

if TYPE_CHECKING:
    from tests.servers import Asked

PACKED = gzip.compress(BODY)
GZIP = b"Content-Encoding: gzip\r\n"
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
SAID = {
    "by length": reply(BODY),
    "by length, packed": reply(PACKED, headers=GZIP.decode()),
    "in chunks": HEAD + CHUNKED + b"\r\n" + in_chunks(BODY, 3000) + b"0\r\n\r\n",
    "in chunks, packed": HEAD + CHUNKED + GZIP + b"\r\n" + in_chunks(PACKED, 500) + b"0\r\n\r\n",
    "to the end": HEAD + b"Connection: close\r\n\r\n" + BODY,
    "to the end, packed": HEAD + b"Connection: close\r\n" + GZIP + b"\r\n" + PACKED,
    "twice": reply(BODY) * 2,
}
"""The valid response in every framing, with its headers."""


@attrs.frozen(kw_only=True)
class Delivery:
    """How it is delivered.

    Attributes:
        said: In which framing.
        end: After how many bytes it breaks off.
        places: Where it is split into writes.
        resets: Whether the connection is broken in the end, or closed.
    """

    said: str
    end: int
    places: list[int]
    resets: bool

    async def __call__(self, _: Asked, writer: asyncio.StreamWriter) -> None:
        """Deliver it."""
        await self.deliver(SAID[self.said][: self.end], writer)

    async def deliver(self, said: bytes, writer: asyncio.StreamWriter) -> None:
        for part in cut(said, self.places):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if self.resets:
            writer.transport.abort()
        else:
            writer.close()


LONGEST = max(map(len, SAID.values()))
DELIVERIES = st.builds(
    Delivery,
    said=st.sampled_from(sorted(SAID)),
    end=st.integers(0, LONGEST) | st.just(LONGEST),
    places=st.lists(st.integers(0, LONGEST), max_size=4),
    resets=st.booleans(),
)


@attrs.frozen(kw_only=True)
class Damaged:
    """A delivery with one byte that is another.

    Attributes:
        delivery: How it is delivered.
        place: Which byte.
        flip: Which of its bits.
    """

    delivery: Delivery
    place: int
    flip: int

    async def __call__(self, _: Asked, writer: asyncio.StreamWriter) -> None:
        """Deliver it."""
        said = bytearray(SAID[self.delivery.said])
        said[self.place % len(said)] ^= self.flip
        await self.delivery.deliver(bytes(said[: self.delivery.end]), writer)


async def received(handler: Delivery | Damaged) -> tuple[list[bytes | None], ImagenError | None]:
    """The kept images of a response, and its error."""
    async with hostile_gateway(handler) as server, asking(server) as client:
        return await answered(client, FOX)


@given(DELIVERIES)
@times(1)
@example(Delivery(said="by length", end=0, places=[], resets=True))
@example(Delivery(said="to the end", end=60, places=[], resets=False))
def test_a_response_cut_anywhere_gives_complete_images_or_a_typed_error(delivery: Delivery) -> None:
    kept, error = asyncio.run(received(delivery))
    assert kept == [FIRST, SECOND][: len(kept)]
    if len(kept) == 2:
        assert error is None
    else:
        assert isinstance(error, TransportError | ProtocolError)
        assert delivery.resets or delivery.end < len(SAID[delivery.said])


@given(st.builds(Damaged, delivery=DELIVERIES, place=st.integers(0, LONGEST), flip=st.sampled_from([1, 4, 32, 128])))
@times(1)
def test_a_response_damaged_anywhere_gives_complete_images_or_a_typed_error(damaged: Damaged) -> None:
    kept, error = asyncio.run(received(damaged))
    # A key that is another now takes its image with it, as if the safety filter had.
    assert kept in ([FIRST, SECOND], [FIRST], [SECOND], [])
    assert error is not None or kept
    assert error is None or failure_class(error) is not None
