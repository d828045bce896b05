"""One image on its way from base64 to a store: decoded, verified, gathered, written, and committed or forgotten.

What is wrong with the image is kept on it and ends only it; a bomb is raised. It knows nothing of the body around it.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import attrs

from imagen_async.exceptions import ProtocolError
from imagen_async.outcome import Image
from imagen_async.picture import Facts, Inspector
from imagen_async.stores import ImageName, Kept, Sink, Store, write_all
from imagen_async.wire.payload import PayloadDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable

    from imagen_async.wire.answer import Item
    from imagen_async.wire.decoder import Payload

__all__ = ["Caps", "Incoming"]


@attrs.frozen(kw_only=True)
class Caps:
    """What no answer may exceed.

    Attributes:
        max_image_bytes: Bytes of one image.
        max_pixels: Width × height of one image.
    """

    max_image_bytes: int = 64 * 2**20
    max_pixels: int = 2**26


class Incoming:
    """One image on its way: `take` and `finish` run in the event loop, `write` to `discard` in writer threads.

    Args:
        store: Where it goes.
        name: What it is called.
        item: Which image of the answer, for error messages.
        caps: What it may not exceed.
        sha256: Whether to make a digest of it.

    Attributes:
        gathered: Verified bytes that are not written yet.
        waiting: How many.
        fault: What is wrong with this image alone; nothing more of it is taken then.
    """

    def __init__(self, store: Store, name: ImageName, item: int, caps: Caps, *, sha256: bool) -> None:
        self.gathered: list[bytes] = []
        self.waiting = 0
        self.fault: ProtocolError | None = None
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
        self._image: Image | None = None
        self._intact = True
        """Whether the store has done all that it was asked."""

    @property
    def index(self) -> int:
        """Its place among the job's images."""
        return self._name.index

    @property
    def whole(self) -> bool:
        """Whether it is all here, verified, and can be committed or is."""
        return self._facts is not None and self._intact

    @property
    def open(self) -> bool:
        """Whether the store keeps something of it that is not committed."""
        return self._sink is not None and self._image is None

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
        """Write some bytes."""
        self._intact = False
        if self._digest is not None:
            for part in parts:
                self._digest.update(part)
        if self._sink is None:
            self._sink = self._store.open(self._name)
        write_all(self._sink, parts)
        self._intact = True

    def commit(self, item: Item, wish: str) -> Image:
        """Make the image visible, once."""
        if self._image is None:
            self._intact = False
            self._image = self._committed(item, wish)
            self._intact = True
        return self._image

    def discard(self) -> None:
        """Forget the image."""
        if self._sink is not None:
            self._sink.discard()

    def _committed(self, item: Item, wish: str) -> Image:
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

    def _verify(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            self._size += len(part)
            if self._size > self._caps.max_image_bytes:
                raise ProtocolError("size", f"an image of over {self._caps.max_image_bytes} bytes")
            self._inspector.feed(part)
            self.gathered.append(part)
            self.waiting += len(part)

    def _blame(self, error: ProtocolError) -> None:
        """Note what is wrong with this image, and take no more of it; a bomb ends the whole body."""
        error.item = self._item
        self.handed()
        if error.check == "size":
            raise error
        # The frames that it came through hold the chunk, and it may be kept for as long as the body is read.
        self.fault = error.with_traceback(None)
