"""Makes the sandbox's images: procedural, repeatable, with real pixel sizes and file sizes.

A few plates for each aspect ratio and format are rendered when first needed, in a thread, and kept as base64. Each
response gets a plate with its own stamp in front (`stamps`), so that serving neither renders an image nor copies
megabytes. The plate depends on the prompt and the image's index alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import random
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import attrs
import pybase64

from imagen_async.catalog import ASPECT_RATIOS
from imagen_async.exceptions import MissingExtraError
from imagen_async.sandbox.stamps import stamp_after, stamped_head

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL.Image import Image

__all__ = ["Picture", "PictureShop", "Plate", "require_pillow"]

VARIANTS = 4
PLATES_KEPT = 32
TINY_SCALE = 64

# Widths of the grain, in grey levels, that give the file sizes of photographs: a PNG of 1.3 to 1.55 MB at
# compression level 1, a JPEG of 200 to 290 kB.
_GRAIN = {"png": 8, "jpeg": 24, "webp": 24}
_SAVE: dict[str, dict[str, Any]] = {
    "png": {"compress_level": 1},
    "jpeg": {"quality": 85},
    "webp": {"quality": 80, "method": 0},
}

T = TypeVar("T")


def require_pillow() -> None:
    """Check that Pillow is installed.

    Raises:
        MissingExtraError: Pillow is not installed.
    """
    try:
        import PIL.Image  # noqa: F401, PLC0415 - an extra, needed only when a gateway starts
    except ImportError:
        raise MissingExtraError("the sandbox gateway", "sandbox") from None


@attrs.frozen
class Picture:
    """One image of one response, as base64 in pieces, which are shared and not copied."""

    base64: tuple[bytes, ...]

    def data(self) -> bytes:
        """Return the image's bytes."""
        return pybase64.b64decode(b"".join(self.base64))


@attrs.frozen
class Plate:
    """A rendered image, ready to be stamped.

    Attributes:
        head: The bytes before the stamp.
        tail: The bytes after the stamp, as base64.
        tail_size: Number of bytes after the stamp, before base64.
    """

    head: bytes = attrs.field(repr=False)
    tail: bytes = attrs.field(repr=False)
    tail_size: int

    @classmethod
    def of(cls, data: bytes) -> Plate:
        """Return the plate for an image file."""
        at = stamp_after(data)
        return cls(data[:at], pybase64.b64encode(data[at:]), len(data) - at)

    def stamped(self, **facts: object) -> Picture:
        """Return the image with a stamp of these facts."""
        head = stamped_head(self.head, facts)
        if len(head) % 3 == 0:
            return Picture((pybase64.b64encode(head), self.tail))
        return self._encoded(head)

    def stamped_for_padding(self, **facts: object) -> Picture:
        """Return the image with a stamp of a length with which the base64 ends in ``==``."""
        return self._encoded(stamped_head(self.head, facts, remainder=(1 - self.tail_size) % 3))

    def _encoded(self, head: bytes) -> Picture:
        return Picture((pybase64.b64encode(head + pybase64.b64decode(self.tail)),))


class PictureShop:
    """Makes the images of one gateway, in its own thread.

    Args:
        scale: ``"realistic"`` or ``"tiny"``.
    """

    def __init__(self, scale: Literal["realistic", "tiny"]) -> None:
        self._shrink = TINY_SCALE if scale == "tiny" else 1
        self._threads = ThreadPoolExecutor(1, "sandbox-pictures")
        self._plates: OrderedDict[tuple[str, str, int], asyncio.Future[Plate]] = OrderedDict()

    async def plates(self, prompt: str, n: int, *, aspect_ratio: str, output_format: str) -> list[Plate]:
        """Return the plates of a prompt's first `n` images; adjacent ones differ."""
        first = int.from_bytes(hashlib.blake2b(prompt.encode(), digest_size=4).digest())
        return [await self._plate(aspect_ratio, output_format, (first + index) % VARIANTS) for index in range(n)]

    async def run(self, work: Callable[[], T]) -> T:
        """Run work that is too long for the event loop in the thread, and return its result."""
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    async def aclose(self) -> None:
        """Stop the thread, after the image that it is rendering."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        if unfinished := [future for future in self._plates.values() if not future.done()]:
            await asyncio.wait(unfinished)
        # Idle now, or finishing work of a cancelled request.
        self._threads.shutdown(wait=True)
        self._plates.clear()

    async def _plate(self, ratio: str, kind: str, variant: int) -> Plate:
        key = (ratio, kind, variant)
        future = self._plates.get(key)
        if future is None or _failed(future):
            future = asyncio.ensure_future(self.run(lambda: self._rendered(ratio, kind, variant)))
            self._plates[key] = future
            if len(self._plates) > PLATES_KEPT:
                self._plates.popitem(last=False)
        self._plates.move_to_end(key)
        # Other requests may wait for the same plate: cancelling one request must not stop the rendering.
        return future.result() if future.done() else await asyncio.shield(future)

    def _rendered(self, ratio: str, kind: str, variant: int) -> Plate:
        width, height = ASPECT_RATIOS[ratio]
        size = (width // self._shrink, height // self._shrink)
        return Plate.of(_saved(_painted(size, seed=f"{ratio}:{variant}", grain=_GRAIN[kind]), kind))


def _failed(future: asyncio.Future[Plate]) -> bool:
    return future.done() and (future.cancelled() or future.exception() is not None)


def _painted(size: tuple[int, int], *, seed: str, grain: int) -> Image:
    """Return soft colours under a film grain; the noise gives the file the size of a photograph's."""
    from PIL import Image, ImageChops  # noqa: PLC0415 - an extra, see `require_pillow`

    chance = random.Random(seed)
    colours = Image.frombytes("RGB", (6, 6), chance.randbytes(6 * 6 * 3)).resize(size, Image.Resampling.BICUBIC)
    noise = Image.frombytes("L", size, chance.randbytes(size[0] * size[1]))
    band = noise.point([level * grain // 256 for level in range(256)])
    return ImageChops.add(colours, Image.merge("RGB", (band, band, band)), 1, -grain // 2)


def _saved(image: Image, kind: str) -> bytes:
    file = io.BytesIO()
    image.save(file, kind.upper(), **_SAVE[kind])
    return file.getvalue()
