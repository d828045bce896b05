"""One image on its way from base64 to a store: decoded, verified, gathered, written, and committed or forgotten.

What is wrong with the image is kept on it and ends only it; a bomb is raised. What a failing store means for it is
`keeping`'s. It knows nothing of the body around it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs

from imagen_async.exceptions import ProtocolError, StoreError
from imagen_async.outcome import Image
from imagen_async.receiver.keeping import StoreWriter
from imagen_async.wire.base64 import Base64Decoder
from imagen_async.wire.image import Facts, Inspector

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagen_async.receiver.spill import Spill
    from imagen_async.stores import ImageName, Store
    from imagen_async.wire.decoder import Payload
    from imagen_async.wire.response import ImageEntry

__all__ = ["Caps", "ImageSink"]


@attrs.frozen(kw_only=True)
class Caps:
    """What no answer may exceed.

    Attributes:
        max_image_bytes: Bytes of one image.
        max_pixels: Width × height of one image.
    """

    max_image_bytes: int = 64 * 2**20
    max_pixels: int = 2**26


class ImageSink:
    """One image on its way: `take` and `finish` run in the event loop, `write` to `discard` in writer threads.

    Args:
        store: Where it goes.
        name: What it is called.
        item: Which image of the answer, for error messages.
        caps: What it may not exceed.
        overflow: Room in memory for what the store does not take.
        sha256: Whether to make a digest of it.

    Attributes:
        gathered: Verified bytes that are not written yet.
        waiting: How many.
        fault: What is wrong with this image alone; nothing more of it is taken then.
        image: What was kept, once it is committed.
    """

    def __init__(self, store: Store, name: ImageName, item: int, caps: Caps, *, overflow: Spill, sha256: bool) -> None:
        self.gathered: list[bytes] = []
        self.waiting = 0
        self.fault: ProtocolError | None = None
        self.image: Image | None = None
        self._keeping = StoreWriter(store, name, overflow)
        self._name = name
        self._item = item
        self._caps = caps
        self._decoder = Base64Decoder(item)
        self._inspector = Inspector(max_pixels=caps.max_pixels)
        self._digest = hashlib.sha256() if sha256 else None
        self._size = 0
        self._facts: Facts | None = None

    @property
    def index(self) -> int:
        """Its place among the job's images."""
        return self._name.index

    @property
    def whole(self) -> bool:
        """Whether it is all here, verified, and can be committed or is."""
        return self._facts is not None and not self._keeping.lost

    @property
    def open(self) -> bool:
        """Whether something of it is kept and not committed."""
        return self._keeping.open

    @property
    def trouble(self) -> StoreError | None:
        """What the store said when it last failed, or None."""
        return self._keeping.trouble

    def take(self, span: Payload) -> None:
        """Decode and verify a span, and gather its bytes.

        Raises:
            ProtocolError: The image is larger than any may be; what else is wrong with it becomes its `fault`.
        """
        if self.fault is not None:
            return
        try:
            self._verify(self._decoder.decode(span))
        except ProtocolError as error:
            self._blame(error)

    def finish(self) -> None:
        """Ask whether the image is whole, now that its text has ended.

        Raises:
            ProtocolError: As `take`.
        """
        if self.fault is not None:
            return
        try:
            self._verify(self._decoder.flush())
            self._facts = self._inspector.finish()
        except ProtocolError as error:
            self._blame(error)

    def handed(self) -> list[bytes]:
        """Give away what is gathered."""
        parts, self.gathered, self.waiting = self.gathered, [], 0
        return parts

    def write(self, parts: list[bytes]) -> None:
        """Write some bytes.

        Raises:
            StoreError: The store fails, and there is no room in memory: the image is lost.
        """
        if self._digest is not None:
            for part in parts:
                self._digest.update(part)
        self._keeping.write(parts)

    def commit(self, item: ImageEntry, wish: str) -> None:
        """Make the image visible, once.

        Raises:
            StoreError: The store fails; if the image is still `whole`, this may be tried again.
        """
        if self.image is None:
            self.image = self._committed(item, wish)

    def discard(self) -> None:
        """Forget the image, unless it is committed."""
        self._keeping.discard()

    def _committed(self, item: ImageEntry, wish: str) -> Image:
        assert self._facts is not None, "finish comes before commit"  # noqa: S101 - an order that only we can break
        facts = self._facts
        kept = self._keeping.commit(facts)
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

    def _verify(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            size = len(part)
            self._size += size
            if self._size > self._caps.max_image_bytes:
                raise ProtocolError("size", f"an image of over {self._caps.max_image_bytes} bytes")
            self._inspector.feed(part)
            self.gathered.append(part)
            self.waiting += size

    def _blame(self, error: ProtocolError) -> None:
        """Note what is wrong with this image, and take no more of it; a bomb ends the whole body."""
        error.item = self._item
        self.handed()
        if error.check == "size":
            raise error
        # The frames that it came through hold the chunk, and it may be kept for as long as the body is read.
        self.fault = error.with_traceback(None)
