"""From the chunks of one answer to verified images in a store.

The body goes through the decoder on the event loop, which costs almost nothing; its payloads are gathered and handed
to a writer thread, which decodes, verifies, hashes and writes. Nothing is committed before the whole body has had its
verdict. It knows neither the network nor why an answer was asked for.
"""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import attrs

from imagen_async.exceptions import ProtocolError
from imagen_async.outcome import Image
from imagen_async.picture import Facts, Inspector
from imagen_async.stores import ImageName, Kept, Sink, Store
from imagen_async.wire.decoder import Decoder, Payload, PayloadStart
from imagen_async.wire.payload import PayloadDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

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
    """One image on its way. `write`, `finish`, `commit` and `discard` run in writer threads."""

    def __init__(self, store: Store, name: ImageName, item: int, caps: Caps, *, sha256: bool) -> None:
        self.gathered: list[Payload] = []
        self.waiting = 0
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

    def write(self, spans: list[Payload]) -> None:
        """Decode, verify and write some spans."""
        self._accept([part for span in spans for part in self._decoder.decode(span)])

    def finish(self) -> None:
        """Write what is still gathered and ask whether the image is whole."""
        spans, self.gathered = self.gathered, []
        self.write(spans)
        self._accept(list(self._decoder.flush()))
        with self._blamed():
            self._facts = self._inspector.finish()

    def commit(self, item: Item, wish: str) -> Image:
        """Make the image visible."""
        assert self._sink is not None and self._facts is not None, "finish comes before commit"  # noqa: S101, PT018 - an order that only we can break
        facts = self._facts
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

    @contextmanager
    def _blamed(self) -> Iterator[None]:
        """Say which item an image's fault is in."""
        try:
            yield
        except ProtocolError as error:
            error.item = self._item
            raise

    def _accept(self, parts: list[bytes]) -> None:
        data = parts[0] if len(parts) == 1 else b"".join(parts)
        if not data:
            return
        self._size += len(data)
        if self._size > self._caps.max_image_bytes:
            raise ProtocolError("size", f"an image of over {self._caps.max_image_bytes} bytes", item=self._item)
        with self._blamed():
            self._inspector.feed(data)
        if self._digest is not None:
            self._digest.update(data)
        if self._sink is None:
            self._sink = self._store.open(self._name)
        self._sink.write(data)


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
            together: Characters that are gathered before a thread is asked to work; fewer cost more hops, more cost
                more memory.

        Raises:
            ProtocolError: The body breaks the contract.
            StoreError: The store cannot take its images.
        """
        for event in self._decoder.feed(chunk):
            if isinstance(event, Payload):
                await self._gather(self._incoming[event.hole], event, together)
            elif isinstance(event, PayloadStart):
                name = ImageName(self._job_id, self._first_index + event.hole)
                self._incoming.append(_Incoming(self._store, name, event.hole, self._caps, sha256=self._sha256))
            elif event.hole:
                # The last image stays gathered for `close`; one before it need not wait in memory.
                await self._flush(self._incoming[event.hole - 1])

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
        return answer, await self._writers.run(self._commit, wanted)

    async def discard(self) -> None:
        """Forget every image that was not committed."""
        incoming, self._incoming = self._incoming, []
        if incoming:
            await self._writers.run(_discard_all, incoming)

    def _commit(self, wanted: list[tuple[Item, _Incoming]]) -> tuple[Image, ...]:
        for _, incoming in wanted:
            incoming.finish()
        images = tuple(incoming.commit(item, self._wish) for item, incoming in wanted)
        kept = {id(incoming) for _, incoming in wanted}
        self._incoming = [incoming for incoming in self._incoming if id(incoming) not in kept]
        return images

    async def _gather(self, incoming: _Incoming, span: Payload, together: int) -> None:
        incoming.gathered.append(span)
        incoming.waiting += len(span.data)
        if incoming.waiting >= together:
            await self._flush(incoming)

    async def _flush(self, incoming: _Incoming) -> None:
        if incoming.gathered:
            spans, incoming.gathered, incoming.waiting = incoming.gathered, [], 0
            await self._writers.run(incoming.write, spans)


def _discard_all(incoming: Iterable[_Incoming]) -> None:
    for image in incoming:
        image.discard()
