"""From the chunks of one answer to verified images in a store.

Each chunk is decoded and verified on the event loop as it comes, while its bytes are still in the processor's cache:
that takes less than to hand the chunk over and to get the interpreter's lock back. What may stall goes to a writer
thread: files, and digests, which take longer than all else.

Nothing is committed before the whole body has had its verdict, or has broken: a body that broke still gives the images
that had arrived whole, for they were paid for. For the same reason a store that fails is asked again for a while. A
fault in one image is that image's own. It knows neither the network nor why an answer was asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ParamSpec, TypeVar

import attrs

from imagen_async._secrets import Mask
from imagen_async.exceptions import ProtocolError, StoreError
from imagen_async.outcome import Image
from imagen_async.receiver.image_sink import Caps, ImageSink
from imagen_async.stores import ImageName, Store
from imagen_async.wire.decoder import Decoder, Event, Payload, PayloadStart
from imagen_async.wire.response import ImageEntry, ResponseDocument

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from imagen_async.receiver.spill import Patience, Spill
    from imagen_async.receiver.threads import WriterThreads

__all__ = ["Caps", "Received", "Receiver"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_NO_SECRETS = Mask()

_USUAL_WRITERS = 4
"""Threads for a store that does not say how many it is worth: most wait for something."""


@attrs.frozen
class Received:
    """What a whole body held.

    Attributes:
        answer: What the document around the images says.
        images: Those that were committed, in the order of their index.
        fault: What is wrong with the first item whose image could not be taken, or None.
    """

    answer: ResponseDocument
    images: tuple[Image, ...]
    fault: ProtocolError | None = None


class Receiver:
    """Takes one answer's body and keeps its images.

    Args:
        store: Where the images go.
        writers: Threads for what may block.
        job_id: What the images are called.
        indices: The index that each image gets, in the order in which they come; as many as were asked for.
        wish: The format that was asked for.
        caps: What no answer may exceed.
        sha256: Whether to make a digest of each image; it costs more than all other checks together.
        mask: Takes secrets out of what the answer says.
        overflow: Room in memory for what the store does not take, and patience with it.
        on_trouble: Called when the store fails, at once: what is done about it must not wait for this answer's end.
    """

    def __init__(
        self,
        store: Store,
        writers: WriterThreads,
        *,
        job_id: str,
        indices: Sequence[int],
        wish: str,
        caps: Caps,
        sha256: bool,
        overflow: Spill,
        on_trouble: Callable[[StoreError], object],
        mask: Mask = _NO_SECRETS,
    ) -> None:
        self._store = store
        threads = getattr(store, "writers", _USUAL_WRITERS) + sha256  # a digest takes longer than a hop to a thread
        writers.widen(threads)
        self._run = writers.run if threads else _at_once
        self._job_id = job_id
        self._indices = indices
        self._wish = wish
        self._caps = caps
        self._sha256 = sha256
        self._mask = mask
        self._overflow = overflow
        self._on_trouble = on_trouble
        # An entry may hold its image at both keys, and some hold an empty text; the verdict counts what `data` names.
        # White space between base64 lines and the ends of quanta are what the last summands are for.
        self._decoder = Decoder(
            max_payloads=2 * len(indices) + 4, max_payload=caps.max_image_bytes // 3 * 4 * 9 // 8 + 1024
        )
        self._entries: list[int] = []
        """Which entry of `data` each payload stands in."""
        self._places: dict[int, int] = {}
        """By entry, the place of its image among the images."""
        self._incoming: dict[int, ImageSink] = {}
        """By payload; one without any text is none."""
        self._full: list[ImageSink] = []

    @property
    def fault(self) -> ProtocolError | None:
        """What is wrong with the first broken image of those that have come so far, or None."""
        return next((image.fault for image in self._incoming.values() if image.fault is not None), None)

    @property
    def waiting(self) -> int:
        """Bytes that a thread is still to write."""
        return 0 if self._run is _at_once else sum(image.waiting for image in self._incoming.values())

    def take(self, chunk: bytes | bytearray, size: int, *, together: int) -> bool:
        """Decode and verify the next bytes of the body; nothing is written yet.

        What is wrong with one image alone does not raise: the other images may be good.

        Args:
            chunk: The bytes; or a bytearray that begins with them, and may be used again afterwards.
            size: How many.
            together: Bytes of an image that are gathered before a thread is asked to write them; fewer cost more hops,
                more cost more memory.

        Returns:
            Whether enough has been gathered for `hand_over`.

        Raises:
            ProtocolError: The document breaks the contract, it holds more images than were asked for, or an image is
                larger than any may be.
        """
        try:
            events = self._decoder.feed(chunk, size)
        except ProtocolError:
            self._follow(self._decoder.before_fault, together)
            raise
        self._follow(events, together)
        return bool(self._full)

    async def hand_over(self) -> None:
        """Let a thread write what has been gathered.

        Raises:
            StoreError: The store cannot take its images.
        """
        full, self._full = self._full, []
        for incoming in full:
            if incoming.gathered:
                await self._run(incoming.write, incoming.handed())
                if incoming.trouble is not None:
                    self._on_trouble(incoming.trouble)

    async def feed(self, chunk: bytes | bytearray, *, together: int = 2**19) -> None:
        """Do both, as far as there is something to hand over.

        Raises:
            ProtocolError: As `take`.
            StoreError: As `hand_over`.
        """
        if self.take(chunk, len(chunk), together=together):
            await self.hand_over()

    async def close(self) -> Received:
        """Say that the body has ended, and commit the images that are whole.

        Raises:
            ProtocolError: The document breaks the contract; nothing is committed.
            StoreError: An image cannot be kept.
        """
        answer = self._decoder.close().masked(self._mask)
        fault = self._fault(answer)
        return Received(answer, await self._keep(answer, patient=True), fault)

    async def salvage(self, *, patient: bool = True) -> tuple[Image, ...]:
        """Commit the images that had arrived whole before the body broke, or before `feed` or `close` raised.

        Args:
            patient: Whether a store that fails is asked again for a while; if not, what it does not take at once is
                left out.

        Returns:
            Those that are committed, in the order of their index; none if it cannot be known which were paid for.

        Raises:
            StoreError: An image cannot be kept, for all patience.
        """
        try:
            answer = self._decoder.begun().masked(self._mask)
        except ProtocolError:
            return ()
        # What has begun counts, and what had no turn any more because something else failed.
        come = max(len(self._places), sum(item.hole is not None for item in answer.items))
        if come > len(self._indices):
            return ()
        try:
            return await self._keep(answer, patient=patient)
        except StoreError:
            if patient:
                raise
            return self._kept()

    async def discard(self) -> None:
        """Forget every image that was not committed."""
        incoming, self._incoming = self._incoming, {}
        left = [image for image in incoming.values() if image.open]
        if left:
            await self._run(_discard_all, left)

    def _follow(self, events: Iterable[Event], together: int) -> None:
        for event in events:
            if isinstance(event, Payload):
                incoming = self._incoming.get(event.hole) or self._begin(event)
                incoming.take(event)
                if incoming.waiting >= together:
                    self._full.append(incoming)
            elif isinstance(event, PayloadStart):
                self._entries.append(event.entry)
            else:
                self._end(event.hole)

    def _begin(self, span: Payload) -> ImageSink:
        place = self._places.setdefault(self._entries[span.hole], len(self._places))
        if place >= len(self._indices):
            told = f"more images than the {len(self._indices)} that were asked for"
            raise ProtocolError("images", told, offset=span.offset)
        name = ImageName(self._job_id, self._indices[place])
        incoming = ImageSink(self._store, name, place, self._caps, overflow=self._overflow, sha256=self._sha256)
        self._incoming[span.hole] = incoming
        return incoming

    def _end(self, hole: int) -> None:
        if hole in self._incoming:
            self._incoming[hole].finish()
        # The last image stays gathered for `close`; one before it need not wait in memory.
        if (before := self._incoming.get(hole - 1)) is not None and before.gathered:
            self._full.append(before)

    def _fault(self, answer: ResponseDocument) -> ProtocolError | None:
        """Find the first item whose image cannot be taken, and say on its error which one that is."""
        for index, item in enumerate(answer.items):
            fault = item.fault if item.hole is None else self._incoming[item.hole].fault
            if fault is not None:
                fault.item = index
                return fault
        return None

    async def _keep(self, answer: ResponseDocument, *, patient: bool) -> tuple[Image, ...]:
        """Commit what is whole; who is patient tries again what the store does not take at once."""
        patience: Patience | None = None
        named = ((item, self._incoming.get(item.hole)) for item in answer.items if item.hole is not None)
        whole = [(item, incoming) for item, incoming in named if incoming is not None and incoming.whole]
        while whole:
            try:
                await self._run(self._commit, whole)
                break
            except StoreError as error:
                self._on_trouble(error)
                patience = patience or self._overflow.patience()
                lost = any(not incoming.whole for _, incoming in whole)
                if lost or not patient or not await patience.wait():
                    raise
        return self._kept()

    def _commit(self, whole: list[tuple[ImageEntry, ImageSink]]) -> None:
        """Commit each that can be; in a thread.

        Raises:
            StoreError: What the first of the others failed of.
        """
        failed: StoreError | None = None
        for item, incoming in whole:
            try:
                if incoming.gathered:
                    incoming.write(incoming.handed())
                incoming.commit(item, self._wish)
            except StoreError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _kept(self) -> tuple[Image, ...]:
        kept = [incoming.image for incoming in self._incoming.values() if incoming.image is not None]
        if len(kept) > 1:
            kept.sort(key=lambda image: image.index)
        return tuple(kept)


async def _at_once(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    return work(*args, **kwargs)


def _discard_all(incoming: Iterable[ImageSink]) -> None:
    for image in incoming:
        image.discard()
