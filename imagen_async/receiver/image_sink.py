"""One image on its way from base64 text into a store: decoded, verified, gathered, written, committed or discarded.

A fault of the image is kept on it and ends this image alone; an oversized image ends the whole body. The image is paid
for, so a store that fails must not lose it: the bytes that the store had accepted are read back, the rest is spilled
into memory beside them, and a commit that failed can be tried again, with a new sink of the store. This module knows
neither the body around the image nor how long a store is tried.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from imagen_async.exceptions import ProtocolError, StoreError
from imagen_async.outcome import Image
from imagen_async.stores import Sink, write_all
from imagen_async.wire.base64 import Base64Decoder
from imagen_async.wire.image import Facts, Inspector

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imagen_async.receiver.caps import Caps
    from imagen_async.receiver.spill import Spill
    from imagen_async.stores import ImageName, Kept, Store
    from imagen_async.wire.decoder import Payload
    from imagen_async.wire.response import ImageEntry

__all__ = ["ImageSink"]


class ImageSink:
    """Moves one image into a store.

    `take`, `finish` and `hand_over` run in the event loop; `write`, `commit` and `discard` in writer threads, one call
    at a time.

    Args:
        store: Where the image goes.
        name: Its name in the store.
        place: Its place among the images of the response, for error messages.
        caps: Upper limits.
        spill: Memory for what the store does not accept.
        sha256: Whether to compute a digest.

    Attributes:
        gathered: Verified bytes that are not written yet.
        pending: Their number.
        fault: What is wrong with the image, or None; nothing more of it is taken then.
        image: What was committed, or None.
        store_error: What the store raised last, or None.
        whole: Whether the image is complete, verified, and is or can be committed.
    """

    def __init__(self, store: Store, name: ImageName, place: int, caps: Caps, *, spill: Spill, sha256: bool) -> None:
        self.gathered: list[bytes] = []
        self.pending = 0
        self.fault: ProtocolError | None = None
        self.image: Image | None = None
        self.store_error: StoreError | None = None
        self.whole = False
        self._store = store
        self._name = name
        self._place = place
        self._caps = caps
        self._spill = spill
        self._decoder = Base64Decoder(place)
        self._inspector = Inspector(max_pixels=caps.max_pixels)
        self._digest = hashlib.sha256() if sha256 else None
        self._size = 0
        self._facts: Facts | None = None
        self._sink: Sink | None = None
        self._written = 0
        self._spilled: list[bytes] | None = None
        """The whole image so far, once the store has failed."""
        self._reserved = 0

    def take(self, span: Payload) -> None:
        """Decode and verify a span of base64 text, and gather its bytes.

        Raises:
            ProtocolError: The image exceeds a cap on its bytes; any other fault becomes `fault`.
        """
        if self.fault is not None:
            return
        try:
            self._verify(self._decoder.decode(span))
        except ProtocolError as error:
            self._fail(error)

    def finish(self) -> None:
        """Verify that the image is complete, now that its text has ended.

        Raises:
            ProtocolError: As `take`.
        """
        if self.fault is not None:
            return
        try:
            self._verify(self._decoder.flush())
            self._facts = self._inspector.finish()
            self.whole = True
        except ProtocolError as error:
            self._fail(error)

    def hand_over(self) -> list[bytes]:
        """Return what is gathered, and start gathering anew."""
        parts, self.gathered, self.pending = self.gathered, [], 0
        return parts

    def write(self, parts: Sequence[bytes]) -> None:
        """Write the next bytes.

        Raises:
            StoreError: The store failed and there is no memory left: the image is lost.
        """
        if self._digest is not None:
            for part in parts:
                self._digest.update(part)
        if self._spilled is None:
            try:
                self._put(parts)
            except StoreError as error:
                self._recover(error)
            else:
                self._written += sum(map(len, parts))
                return
        self._reserve(sum(map(len, parts)))
        assert self._spilled is not None, "set when the store failed"  # noqa: S101 - an order that only this class can break
        self._spilled += parts

    def commit(self, entry: ImageEntry, output_format: str) -> None:
        """Publish the image in the store, once.

        Args:
            entry: What the response says of the image.
            output_format: The format that was requested.

        Raises:
            StoreError: The store failed; while the image is `whole`, the commit can be tried again.
        """
        if self.image is not None:
            return
        facts = self._facts
        assert facts is not None, "finish comes before commit"  # noqa: S101 - an order that only this package can break
        if self.gathered:
            self.write(self.hand_over())
        kept = self._committed(facts)
        note = f"the gateway sent {facts.format} where {output_format} was requested"
        self.image = Image(
            index=self._name.index,
            format=facts.format,
            width=facts.width,
            height=facts.height,
            size=facts.size,
            sha256=self._digest.hexdigest() if self._digest else None,
            data=kept.data,
            path=kept.path,
            details=entry.details,
            notes=(note,) if facts.format != output_format else (),
        )

    def discard(self) -> None:
        """Discard the image, unless it is committed."""
        sink, self._sink = self._sink, None
        self._release()
        if sink is not None:
            sink.discard()

    def _verify(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            size = len(part)
            self._size += size
            if self._size > self._caps.max_image_bytes:
                raise ProtocolError("size", f"an image of over {self._caps.max_image_bytes} bytes")
            self._inspector.feed(part)
            self.gathered.append(part)
            self.pending += size

    def _fail(self, error: ProtocolError) -> None:
        error.item = self._place
        self.hand_over()
        if error.check == "size":
            raise error
        # The traceback's frames hold the chunk, and the error may be kept for as long as the body is read.
        self.fault = error.with_traceback(None)

    def _put(self, parts: Sequence[bytes]) -> None:
        if self._sink is None:
            self._sink = self._store.open(self._name)
        write_all(self._sink, parts)

    def _committed(self, facts: Facts) -> Kept:
        try:
            if self._spilled is not None:
                self._put(self._verified_again(self._spilled, facts))
            assert self._sink is not None, "a whole image has bytes"  # noqa: S101 - the inspector's promise
            kept = self._sink.commit(facts)
        except StoreError as error:
            self._recover(error)
            raise
        self._sink = None
        self._release()
        return kept

    def _recover(self, error: StoreError) -> None:
        """Go on in memory, with the bytes that the store had accepted."""
        self.store_error = error
        sink, self._sink = self._sink, None
        try:
            if self._spilled is None:
                self._spilled = []
                self._read_back(sink)
        finally:
            if sink is not None:
                sink.discard()

    def _read_back(self, sink: Sink | None) -> None:
        if not self._written:
            return
        self._reserve(self._written)
        taken = getattr(sink, "taken", None)
        try:
            data: bytes = b"" if taken is None else taken()
        except StoreError:
            data = b""
        if len(data) < self._written:
            self._lose()
        # More than that is the beginning of the write that failed, which is spilled whole.
        self._spilled = [data[: self._written]]

    def _verified_again(self, parts: list[bytes], facts: Facts) -> list[bytes]:
        """Return `parts` if they are still the image: a part may have been read back from a failing disk."""
        inspector = Inspector(max_pixels=facts.width * facts.height)
        try:
            for part in parts:
                inspector.feed(part)
            same = inspector.finish() == facts
        except ProtocolError:
            same = False
        if not same:
            self._lose()
        return parts

    def _reserve(self, size: int) -> None:
        if not self._spill.reserve(size):
            self._lose()
        self._reserved += size

    def _lose(self) -> None:
        self.whole = False
        self._release()
        assert self.store_error is not None, "nothing is lost while the store works"  # noqa: S101 - set in `_recover`
        raise self.store_error

    def _release(self) -> None:
        self._spilled = None
        reserved, self._reserved = self._reserved, 0
        self._spill.release(reserved)
