"""What the bytes of an image say about it: format, pixels, and whether they are complete.

Bytes arrive in spans of any length, and none is kept: the walk over an image's frame (`image_formats`) reads a few
bytes at a time and skips the rest, so memory is constant and a span of half a megabyte takes a few steps. Any division
into spans gives the same verdict. Pixels are not decoded. Pure.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

from imagen_async.exceptions import ProtocolError
from imagen_async.wire.image_formats import (
    NOTHING,
    SIGNATURE_SIZE,
    Cursor,
    Walk,
    broken,
    crc32,
    may_begin,
    unknown,
    walk,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXTENSIONS", "MEDIA_TYPES", "MOST_PIXELS", "Facts", "Inspector"]

MOST_PIXELS = 2**26
"""The default limit, 8192 × 8192: forty times the gateway's images."""

EXTENSIONS: Mapping[str, str] = MappingProxyType({"png": ".png", "jpeg": ".jpg", "webp": ".webp"})
"""The extension of a file, by format."""

MEDIA_TYPES: Mapping[str, str] = MappingProxyType({"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"})
"""The media type, by format."""


@attrs.frozen
class Facts:
    """What a complete image is.

    Attributes:
        format: ``png``, ``jpeg`` or ``webp``, by the bytes.
        width: Pixels.
        height: Pixels.
        size: Bytes.
    """

    format: str
    width: int
    height: int
    size: int


class Inspector:
    """Verifies one image while its bytes arrive.

    Args:
        max_pixels: Most pixels, width × height, that an image may claim.
        checksums: Whether to check the checksum of each PNG chunk, which detects damage inside a chunk.

    Example:
        >>> inspector = Inspector()
        >>> inspector.feed(b"<html>Bad gateway</html>")
        Traceback (most recent call last):
        ...
        imagen_async.exceptions.ProtocolError: image: no PNG, JPEG or WebP begins with b'<html>Ba', at byte 0...
    """

    def __init__(self, *, max_pixels: int = MOST_PIXELS, checksums: bool = True) -> None:
        self._cursor = Cursor(max_pixels, checksums)
        self._walk: Walk | None = walk(self._cursor)
        self._wanted = next(self._walk)
        self._carry = b""
        self._beginning = b""
        self._tail = b""
        self._failure: tuple[str, str] | None = None

    def feed(self, data: bytes | memoryview | bytearray) -> None:
        """Verify the next span, of any length; its buffer may be reused afterwards.

        Raises:
            ProtocolError: The bytes so far are not the beginning of a whole image; raised again by every later call.
                `check` is ``image`` (no known image, or a broken frame), ``image-size`` (pixels),
                ``image-checksum``, or ``image-end`` (it ends too early, or bytes follow its end).
        """
        if self._failure:
            raise ProtocolError(*self._failure)
        if self._cursor.left >= len(data) > 1 and len(self._beginning) == SIGNATURE_SIZE:
            # The common case: the span is inside a chunk.
            self._skip(data)
            self._tail = bytes(data[-2:])
            return
        try:
            with memoryview(data) as span:
                self._take(span)
        except ProtocolError as error:
            self._failure = (error.check, error.message)
            raise
        finally:
            self._cursor.ahead = NOTHING

    def finish(self) -> Facts:
        """End the image; return its facts.

        Raises:
            ProtocolError: As for `feed`, and ``image-end`` if the image is cut off.
        """
        if self._failure:
            raise ProtocolError(*self._failure)
        cursor = self._cursor
        if not cursor.format and not may_begin(self._beginning):
            raise unknown(self._beginning)
        if cursor.ending and self._tail != cursor.ending:
            words = f"the {cursor.format} image ends with {self._tail!r} instead of {cursor.ending!r}"
            raise broken("image-end", f"{words}: it is cut off, or bytes follow its end", cursor.offset)
        if not cursor.ending and (self._walk is not None or cursor.left):
            raise broken("image-end", f"the {cursor.format or 'beginning of an'} image is cut off", cursor.offset)
        return Facts(cursor.format, cursor.width, cursor.height, cursor.offset)

    def _take(self, span: memoryview) -> None:
        position, end, cursor = 0, len(span), self._cursor
        if len(self._beginning) < SIGNATURE_SIZE:
            self._beginning += bytes(span[: SIGNATURE_SIZE - len(self._beginning)])
        self._tail = bytes(span[-2:]) if end > 1 else (self._tail + bytes(span))[-2:]
        while position < end:
            if cursor.left:
                position += self._skip(span[position : position + cursor.left])
            elif self._walk is not None:
                field = bytes(span[position : position + self._wanted - len(self._carry)])
                position += len(field)
                cursor.offset += len(field)
                cursor.ahead = span[position:]
                self._carry += field
                if len(self._carry) == self._wanted:
                    whole, self._carry = self._carry, b""
                    try:
                        self._wanted = self._walk.send(whole)
                    except StopIteration:
                        self._walk = None
                position = end - len(cursor.ahead)
            else:
                raise broken("image-end", f"bytes follow the end of the {cursor.format} image", cursor.offset)

    def _skip(self, stretch: bytes | memoryview | bytearray) -> int:
        cursor, size = self._cursor, len(stretch)
        if cursor.summing:
            cursor.crc = crc32(stretch, cursor.crc)
        cursor.left -= size
        cursor.offset += size
        return size
