"""From the chunks of one answer to verified images in a store.

Each chunk is decoded and verified on the event loop as it comes, while its bytes are still in the processor's cache. A
thread that decoded would hold the interpreter's lock meanwhile, so the loop would wait all the same, and pay for the
hand-over besides. What may stall goes to a writer thread: files, and
digests, which hold no lock. Nothing is committed before the whole body has had its verdict. It knows neither the
network nor why an answer was asked for.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs

from imagen_async.exceptions import ProtocolError
from imagen_async.outcome import Image
from imagen_async.picture import Facts, Inspector
from imagen_async.stores import ImageName, Kept, Sink, Store, write_all
from imagen_async.wire.decoder import Decoder, Payload, PayloadStart
from imagen_async.wire.payload import PayloadDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagen_async.wire.answer import Answer, Item
    from imagen_async.writers import Writers

__all__ = ["Caps", "Receiver"]


@attrs.frozen(kw_only=True)
class Caps:
    """What no answer may exceed.

    Attributes:
        max_image_bytes: Bytes of one image.
        max_pixels: Width × height of one image.
    """

    max_image_bytes: int = 64 * 2**20
    max_pixels: int = 2**26


class _Incoming:
    """One image on its way: `take` and `finish` run in the event loop, all else in writer threads."""

    def __init__(self, store: Store, name: ImageName, item: int, caps: Caps, *, sha256: bool) -> None:
        self.gathered: list[bytes] = []
        self.waiting = 0
        """Bytes that are gathered."""
        self._store = store
        self._name = name
        self._item = item
        self._caps = caps
        self._decoder = PayloadDecoder(item)
        self._inspector = Inspector(max_pixels=caps.max_pixels)
        self._digest = hashlib.sha256() if sha256 else None
        self._size = 0
        self._sink: Sink | None = None
        self._facts: Facts | None = None

    def take(self, span: Payload) -> None:
        """Decode and verify a span, and gather its bytes."""
        for part in self._decoder.decode(span):
            self._verify(part)

    def finish(self) -> None:
        """Ask whether the image is whole."""
        for part in self._decoder.flush():
            self._verify(part)
        try:
            self._facts = self._inspector.finish()
        except ProtocolError as error:
            error.item = self._item
            raise

    def handed(self) -> list[bytes]:
        """Give away what is gathered."""
        parts, self.gathered, self.waiting = self.gathered, [], 0
        return parts

    def write(self, parts: list[bytes]) -> None:
        """Write some bytes."""
        if self._digest is not None:
            for part in parts:
                self._digest.update(part)
        if self._sink is None:
            self._sink = self._store.open(self._name)
        write_all(self._sink, parts)

    def commit(self, item: Item, wish: str) -> Image:
        """Make the image visible."""
        assert self._facts is not None, "finish comes before commit"  # noqa: S101 - an order that only we can break
        facts = self._facts
        assert self._sink is not None, "an image that is whole has bytes"  # noqa: S101 - the inspector says so
        kept: Kept = self._sink.commit(facts)
        mismatch = (f"the gateway sent {facts.format} where {wish} was asked",) if facts.format != wish else ()
        return Image(
            index=self._name.index,
            format=facts.format,
            width=facts.width,
            height=facts.height,
            size=facts.size,
            sha256=self._digest.hexdigest() if self._digest else None,
            data=kept.data,
            path=kept.path,
            details=item.details,
            notes=mismatch,
        )

    def discard(self) -> None:
        """Forget the image."""
        if self._sink is not None:
            self._sink.discard()

    def _verify(self, part: bytes) -> None:
        self._size += len(part)
        if self._size > self._caps.max_image_bytes:
            raise ProtocolError("size", f"an image of over {self._caps.max_image_bytes} bytes", item=self._item)
        try:
            self._inspector.feed(part)
        except ProtocolError as error:
            error.item = self._item  # it is said which item an image's fault is in
            raise
        self.gathered.append(part)
        self.waiting += len(part)


class Receiver:
    """Takes one answer's body and keeps its images.

    Args:
        store: Where the images go.
        writers: Threads for the heavy work.
        job_id: What the images are called.
        first_index: Index of the first image.
        n: How many were asked for.
        wish: The format that was asked for.
        caps: What no answer may exceed.
        sha256: Whether to make a digest of each image; it costs more than all other checks together.
    """

    def __init__(
        self,
        store: Store,
        writers: Writers,
        *,
        job_id: str,
        first_index: int,
        n: int,
        wish: str,
        caps: Caps,
        sha256: bool,
    ) -> None:
        self._store = store
        self._writers = writers
        self._job_id = job_id
        self._first_index = first_index
        self._n = n
        self._wish = wish
        self._caps = caps
        self._sha256 = sha256
        # A thumbnail beside the images must not be the one too many; the verdict counts what `data` names.
        # White space between base64 lines and the ends of quanta are what the last summands are for.
        self._decoder = Decoder(max_payloads=n + 4, max_payload=caps.max_image_bytes // 3 * 4 * 9 // 8 + 1024)
        self._incoming: list[_Incoming] = []

    async def feed(self, chunk: bytes, *, together: int = 2**19) -> None:
        """Take the next bytes of the body.

        Args:
            chunk: The bytes.
            together: Bytes of an image that are gathered before a thread is asked to write them; fewer cost more hops,
                more cost more memory.

        Raises:
            ProtocolError: The body or an image breaks the contract.
            StoreError: The store cannot take its images.
        """
        for event in self._decoder.feed(chunk):
            if isinstance(event, Payload):
                incoming = self._incoming[event.hole]
                incoming.take(event)
                if incoming.waiting >= together:
                    await self._hand_over(incoming)
            elif isinstance(event, PayloadStart):
                name = ImageName(self._job_id, self._first_index + event.hole)
                self._incoming.append(_Incoming(self._store, name, event.hole, self._caps, sha256=self._sha256))
            elif event.hole:
                # The last image stays gathered for `close`; one before it need not wait in memory.
                await self._hand_over(self._incoming[event.hole - 1])

    async def close(self) -> tuple[Answer, tuple[Image, ...]]:
        """Say that the body has ended, and commit its images.

        Raises:
            ProtocolError: The body or an image breaks the contract.
            StoreError: An image cannot be kept.
        """
        answer = self._decoder.close()
        wanted = [(item, self._incoming[item.hole]) for item in answer.items if item.hole is not None]
        if len(wanted) > self._n:
            raise ProtocolError("images", f"{len(wanted)} images where {self._n} were asked")
        if not wanted:
            return answer, ()
        for _, incoming in wanted:
            incoming.finish()
        return answer, await self._writers.run(self._commit, wanted)

    async def discard(self) -> None:
        """Forget every image that was not committed."""
        incoming, self._incoming = self._incoming, []
        if incoming:
            await self._writers.run(_discard_all, incoming)

    def _commit(self, wanted: list[tuple[Item, _Incoming]]) -> tuple[Image, ...]:
        for _, incoming in wanted:
            if incoming.gathered:
                incoming.write(incoming.handed())
        images = tuple(incoming.commit(item, self._wish) for item, incoming in wanted)
        kept = {id(incoming) for _, incoming in wanted}
        self._incoming = [incoming for incoming in self._incoming if id(incoming) not in kept]
        return images

    async def _hand_over(self, incoming: _Incoming) -> None:
        if incoming.gathered:
            await self._writers.run(incoming.write, incoming.handed())


def _discard_all(incoming: Iterable[_Incoming]) -> None:
    for image in incoming:
        image.discard()
