"""From the chunks of one response body to verified images in a store.

Each chunk is decoded and verified in the event loop as it arrives, while its bytes are in the processor's cache: that
takes less time than handing the chunk to a thread. Work that may stall goes to a writer thread: files, and digests,
which take longer than all other checks.

Nothing is committed before the whole body is valid or has broken: a broken body still yields the images that had
arrived whole, because they were paid for. For the same reason a failing store is tried again for a while. A fault of
one image costs that image alone. This module knows neither the network nor why a response was requested.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ParamSpec, Protocol, TypeVar

from imagen_async._cancellation import unbroken
from imagen_async.exceptions import ProtocolError, StoreError, TransportError
from imagen_async.receiver.gate import Gate, Passage
from imagen_async.receiver.image_sink import ImageSink
from imagen_async.receiver.threads import WriterThreads
from imagen_async.stores import ImageName, Store
from imagen_async.stores.store import USUAL_WRITERS
from imagen_async.wire.decoder import Decoder, Event, Payload, PayloadStart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from imagen_async._secrets import Mask
    from imagen_async.outcome import Image
    from imagen_async.receiver.caps import Caps
    from imagen_async.receiver.spill import Spill, StoreRetry
    from imagen_async.wire.response import ImageEntry, ResponseDocument

__all__ = ["Body", "Receiver", "ReceiverContext"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Body(Protocol):
    """A response body that is still to be read; `transport.Response` is one."""

    @property
    def mask(self) -> Mask:
        """Removes secrets from text of the response."""
        ...

    @property
    def packed(self) -> str | None:
        """The content encoding that nothing has decoded, or None."""
        ...

    @property
    def here(self) -> bool:
        """Whether the whole body has arrived."""
        ...

    def hold(self) -> None:
        """Leave the rest of the body in the socket until it is read."""

    async def pump(self, take: Callable[[bytes | bytearray, int], bool], /) -> bool:
        """Pass chunks to `take` as they arrive, until it returns True; return whether there is more to come."""
        ...


class ReceiverContext:
    """What the receivers of one client share.

    Args:
        caps: Upper limits on an image.
        spill: Memory for images that a store does not accept.
        max_reading: Most bodies read at the same time, slow ones aside.
        writers: Writer threads; None for as many as the stores ask for.
    """

    def __init__(self, *, caps: Caps, spill: Spill, max_reading: int, writers: int | None = None) -> None:
        self.caps = caps
        self.spill = spill
        self.threads = WriterThreads(writers)
        self.gate = Gate(max_reading, threads=lambda: self.threads.count)
        self._writers = writers

    def open(self) -> None:
        """Start anew in the running event loop, with threads and a gate of its own; closed threads stay closed."""
        if not self.threads.closed:
            self.threads.close()
            self.threads = WriterThreads(self._writers)
            self.gate = Gate(self.gate.size, threads=lambda: self.threads.count)


class Receiver:
    """Receives one body and keeps its images.

    Args:
        context: Shared with other receivers.
        store: Where the images go.
        job_id: The name of the images.
        indices: The index of each image in the order of arrival; as many as were requested.
        output_format: The format that was requested.
        sha256: Whether to compute a digest of each image.
        on_store_failure: Called as soon as the store fails, while its images are still tried again.

    Attributes:
        document: What the response says around its images; None if the body broke.
        fault: What is wrong with the body, or with the first entry whose image cannot be used; or None.
    """

    def __init__(
        self,
        context: ReceiverContext,
        store: Store,
        *,
        job_id: str,
        indices: Sequence[int],
        output_format: str,
        sha256: bool,
        on_store_failure: Callable[[StoreError], object],
    ) -> None:
        self.document: ResponseDocument | None = None
        self.fault: ProtocolError | TransportError | None = None
        self._context = context
        self._store = store
        threads = getattr(store, "writers", USUAL_WRITERS) + sha256  # a digest takes longer than a hop to a thread
        context.threads.widen(threads)
        self._run = context.threads.run if threads else _in_the_loop
        self._job_id = job_id
        self._indices = indices
        self._output_format = output_format
        self._sha256 = sha256
        self._on_store_failure = on_store_failure
        self._passage = Passage(context.gate)
        # An entry may hold its image at both keys, and some hold an empty text; the document decides which count.
        # The last summands are for white space between base64 lines and for the ends of quanta.
        self._decoder = Decoder(
            max_payloads=2 * len(indices) + 4, max_payload=context.caps.max_image_bytes // 3 * 4 * 9 // 8 + 1024
        )
        self._entries: list[int] = []
        """Which entry of `data` each payload stands in."""
        self._places: dict[int, int] = {}
        """By entry, the place of its image among the images."""
        self._sinks: dict[int, ImageSink] = {}
        """By payload; a payload without any text has none."""
        self._full: list[ImageSink] = []

    @property
    def images(self) -> tuple[Image, ...]:
        """The images that are committed, in the order of their index."""
        images = [sink.image for sink in self._sinks.values() if sink.image is not None]
        if len(images) > 1:
            images.sort(key=lambda image: image.index)
        return tuple(images)

    async def receive(self, body: Body) -> None:
        """Read the body and commit its whole images; a broken body becomes `fault` and does not raise.

        Raises:
            StoreError: An image cannot be kept; the images that can be are committed.
            CancelledError: The caller was cancelled; whole images are committed.
        """
        try:
            if body.here:  # in memory already: it does not have to pass the gate
                await self._read(body)
            else:
                if self._context.gate.full:
                    body.hold()  # an unread body occupies a socket buffer, not an image's memory
                async with self._passage:
                    await self._read(body)
        except (StoreError, asyncio.CancelledError):
            await unbroken(self._salvage(body.mask, retry=False))
            raise
        finally:
            self._passage.written()
            if left := [sink for sink in self._sinks.values() if sink.image is None]:
                await self._run(_discard_all, left)

    async def _read(self, body: Body) -> None:
        passage = self._passage
        try:
            while await body.pump(self._take):
                passage.receiving = False
                await self._write_gathered()
                passage.receiving = True
            unwritten = 0 if self._run is _in_the_loop else sum(sink.pending for sink in self._sinks.values())
            await passage.complete(unwritten)
            document = self._decoder.close().masked(body.mask)
        except (TransportError, ProtocolError) as error:
            self.fault = _explained(error, body.packed)
            await self._salvage(body.mask, retry=True)
            return
        self.fault = self._entry_fault(document)
        await self._commit(document, retry=True)
        self.document = document

    def _take(self, chunk: bytes | bytearray, size: int) -> bool:
        """Decode and verify a chunk; return whether enough is gathered for a writer thread.

        Args:
            chunk: The bytes, or a bytearray that starts with them and is reused afterwards.
            size: Their number.

        Raises:
            ProtocolError: The document is invalid, it holds more images than were requested, or an image is too large.
        """
        self._passage.received += size
        try:
            events = self._decoder.feed(chunk, size)
        except ProtocolError:
            self._follow(self._decoder.before_fault)
            raise
        self._follow(events)
        return bool(self._full)

    def _follow(self, events: Iterable[Event]) -> None:
        for event in events:
            if isinstance(event, Payload):
                sink = self._sinks.get(event.hole) or self._begin(event)
                sink.take(event)
                if sink.pending >= self._passage.span:
                    self._full.append(sink)
            elif isinstance(event, PayloadStart):
                self._entries.append(event.entry)
            else:
                if event.hole in self._sinks:
                    self._sinks[event.hole].finish()
                # The last image stays gathered for the commit; the one before it need not stay in memory.
                if (before := self._sinks.get(event.hole - 1)) is not None and before.gathered:
                    self._full.append(before)

    def _begin(self, span: Payload) -> ImageSink:
        place = self._places.setdefault(self._entries[span.hole], len(self._places))
        if place >= len(self._indices):
            message = f"more images than the {len(self._indices)} that were requested"
            raise ProtocolError("images", message, offset=span.offset)
        name = ImageName(self._job_id, self._indices[place])
        context = self._context
        sink = ImageSink(self._store, name, place, context.caps, spill=context.spill, sha256=self._sha256)
        self._sinks[span.hole] = sink
        return sink

    async def _write_gathered(self) -> None:
        full, self._full = self._full, []
        for sink in full:
            if sink.gathered:
                await self._run(sink.write, sink.hand_over())
                if sink.store_error is not None:
                    self._store_failed(sink.store_error)

    def _entry_fault(self, document: ResponseDocument) -> ProtocolError | None:
        """Return what is wrong with the first entry whose image cannot be used."""
        for index, entry in enumerate(document.items):
            fault = entry.fault if entry.hole is None else self._sinks[entry.hole].fault
            if fault is not None:
                fault.item = index
                return fault
        return None

    async def _salvage(self, mask: Mask, *, retry: bool) -> None:
        """Commit the images that had arrived whole when the body broke; none if it is unknown which were paid for.

        Args:
            mask: Removes secrets from text of the response.
            retry: Whether a failing store is tried again for a while, and its last error raised.

        Raises:
            StoreError: An image cannot be kept.
        """
        try:
            document = self._decoder.begun().masked(mask)
        except ProtocolError:
            return
        # Images that have begun count, and those that were not reached because something else failed.
        begun = max(len(self._places), sum(entry.hole is not None for entry in document.items))
        if begun > len(self._indices):
            return
        try:
            await self._commit(document, retry=retry)
        except StoreError:
            if retry:
                raise

    async def _commit(self, document: ResponseDocument, *, retry: bool) -> None:
        named = ((entry, self._sinks.get(entry.hole)) for entry in document.items if entry.hole is not None)
        whole = [(entry, sink) for entry, sink in named if sink is not None and sink.whole]
        schedule: StoreRetry | None = None
        while whole:
            try:
                await self._run(self._commit_each, whole)
            except StoreError as error:
                self._store_failed(error)
                lost = any(not sink.whole for _, sink in whole)
                schedule = schedule or self._context.spill.store_retry()
                if lost or not retry or not await schedule.wait():
                    raise
            else:
                return

    def _commit_each(self, whole: list[tuple[ImageEntry, ImageSink]]) -> None:
        """Commit each image that can be committed, in a thread.

        Raises:
            StoreError: The first error of the others.
        """
        failed: StoreError | None = None
        for entry, sink in whole:
            try:
                sink.commit(entry, self._output_format)
            except StoreError as error:
                failed = failed or error
        if failed is not None:
            raise failed

    def _store_failed(self, error: StoreError) -> None:
        self._passage.written()  # spilled images count in the spill, and may wait there for long
        self._on_store_failure(error)


async def _in_the_loop(work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    return work(*args, **kwargs)


def _discard_all(sinks: Iterable[ImageSink]) -> None:
    for sink in sinks:
        sink.discard()


def _explained(error: TransportError | ProtocolError, packed: str | None) -> TransportError | ProtocolError:
    """Blame the Content-Encoding header for a body that is not JSON because nothing has decoded it."""
    if packed is None or not isinstance(error, ProtocolError) or error.check != "json":
        return error
    message = f"nothing here decodes the header Content-Encoding: {packed}; {error.message}"
    return ProtocolError("content-encoding", message, offset=error.offset)
