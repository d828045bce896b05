"""What the bytes of an image say of themselves: format, pixels, and whether they are all there.

Bytes come in as they arrive, in spans of any length, and none is kept: the walk over an image's frame (chunks,
segments) looks at a few bytes of it at a time and passes over the rest, so memory is constant and a span of half a
megabyte costs a handful of steps. However an image is cut into spans, the verdict is the same. Pixels are not
decoded. Nothing here knows where the bytes come from or where they go.

Formats: PNG (W3C PNG, third edition), JPEG (ITU-T T.81), WebP (RFC 9649).
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Generator, Mapping
from types import MappingProxyType

import attrs

from imagen_async.exceptions import ProtocolError

try:
    # The same sums, several times as fast: the extra `speed`.
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["EXTENSIONS", "MEDIA_TYPES", "MOST_PIXELS", "Facts", "Inspector"]

MOST_PIXELS = 2**26
"""The default limit, 8192 × 8192: forty times what the gateway makes."""

EXTENSIONS: Mapping[str, str] = MappingProxyType({"png": ".png", "jpeg": ".jpg", "webp": ".webp"})
"""How a file's name ends, by format."""

MEDIA_TYPES: Mapping[str, str] = MappingProxyType({"png": "image/png", "jpeg": "image/jpeg", "webp": "image/webp"})
"""The media type, by format."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_RIFF, _WEBP = b"RIFF", b"WEBP"

_LONGEST_CHUNK = 2**31 - 1
_BETWEEN = struct.Struct(">II4s")
"""What stands between the data of two PNG chunks: the checksum of one, and length and name of the next."""
_IDAT_SUM = crc32(b"IDAT")
_CHUNK_NAME = re.compile(rb"[A-Za-z]{4}")
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""The bit depths that each PNG colour type comes in."""

_END_OF_IMAGE, _START_OF_SCAN, _FILL = 0xD9, 0xDA, 0xFF
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_NO_MARKERS = frozenset({0x00, 0xD8, _FILL})
_MOST_FILL = 1024
"""Fill bytes are looked at one by one, so a body made of nothing else must not go on for ever."""

_WEBP_PICTURES = frozenset({b"VP8 ", b"VP8L", b"ANMF"})
_MOST_WEBP_SIDE = 0x3FFF


@attrs.frozen
class Facts:
    """What a whole image is.

    Attributes:
        format: ``png``, ``jpeg`` or ``webp``: what the bytes are.
        width: Pixels.
        height: Pixels.
        size: Bytes.
    """

    format: str
    width: int
    height: int
    size: int


_NOTHING = memoryview(b"")


@attrs.define
class _Cursor:
    """Where a walk stands: the inspector moves it, the walk says what to pass over and what it found.

    Attributes:
        offset: Bytes of the image so far.
        left: Bytes still to pass over before the walk sees the next field.
        summing: Whether `crc` sums up what is passed over.
        ending: What the last bytes must be, for a format whose end shows in nothing else.
        ahead: What of the span follows the field that was sent; a walk may take from its front what it has all of.
    """

    max_pixels: int
    checksums: bool
    offset: int = 0
    left: int = 0
    summing: bool = False
    crc: int = 0
    format: str = ""
    width: int = 0
    height: int = 0
    ending: bytes = b""
    ahead: memoryview = _NOTHING

    def found(self, kind: str, width: int, height: int) -> None:
        self.format, self.width, self.height = kind, width, height
        if not width or not height:
            raise _broken("image-size", f"the image has no area, {width}×{height} pixels", self.offset)
        if width * height > self.max_pixels:
            claim = f"the image claims {width}×{height} pixels, more than the limit of {self.max_pixels}"
            raise _broken("image-size", claim, self.offset)


_Walk = Generator[int, bytes, None]
"""A walk yields how many bytes its next field has, and is sent that field; `_Cursor.left` comes first."""


class Inspector:
    """Verify one image while its bytes arrive.

    Args:
        max_pixels: Most pixels, width × height, that an image may claim.
        checksums: Whether to sum up each PNG chunk; without it, damage inside a chunk goes unseen.

    Example:
        >>> inspector = Inspector()
        >>> inspector.feed(b"<html>Bad gateway</html>")
        Traceback (most recent call last):
        ...
        imagen_async.exceptions.ProtocolError: image: no PNG, JPEG or WebP begins with b'<html>Ba', at byte 0...
    """

    def __init__(self, *, max_pixels: int = MOST_PIXELS, checksums: bool = True) -> None:
        self._cursor = _Cursor(max_pixels, checksums)
        self._walk: _Walk | None = _walk(self._cursor)
        self._wanted = next(self._walk)
        self._carry = b""
        self._beginning = b""
        self._tail = b""
        self._failure: tuple[str, str] | None = None

    def feed(self, data: bytes | memoryview | bytearray) -> None:
        """Take the next span, of any length; its buffer may be reused afterwards.

        Raises:
            ProtocolError: The bytes so far are not the beginning of a whole image; raised again by every later call.
                `check` is ``image`` (no known image, or a broken frame), ``image-size`` (pixels),
                ``image-checksum``, or ``image-end`` (it ends too early, or bytes follow its end).
        """
        if self._failure:
            raise ProtocolError(*self._failure)
        if self._cursor.left >= len(data) > 1 and len(self._beginning) == len(_PNG):
            # Most of an image is this: the inside of one of its chunks.
            self._pass_over(data)
            self._tail = bytes(data[-2:])
            return
        try:
            with memoryview(data) as span:
                self._take(span)
        except ProtocolError as error:
            self._failure = (error.check, error.message)
            raise
        finally:
            self._cursor.ahead = _NOTHING

    def finish(self) -> Facts:
        """Say that no more bytes come, and learn what the image is.

        Raises:
            ProtocolError: As for `feed`, and ``image-end`` if the image is cut off.
        """
        if self._failure:
            raise ProtocolError(*self._failure)
        cursor = self._cursor
        if not cursor.format and not _may_begin(self._beginning):
            raise _unknown(self._beginning)
        if cursor.ending and self._tail != cursor.ending:
            words = f"the {cursor.format} image ends with {self._tail!r} instead of {cursor.ending!r}"
            raise _broken("image-end", f"{words}: it is cut off, or bytes follow its end", cursor.offset)
        if not cursor.ending and (self._walk is not None or cursor.left):
            raise _broken("image-end", f"the {cursor.format or 'beginning of an'} image is cut off", cursor.offset)
        return Facts(cursor.format, cursor.width, cursor.height, cursor.offset)

    def _take(self, span: memoryview) -> None:
        position, end, cursor = 0, len(span), self._cursor
        if len(self._beginning) < len(_PNG):
            self._beginning += bytes(span[: len(_PNG) - len(self._beginning)])
        self._tail = bytes(span[-2:]) if end > 1 else (self._tail + bytes(span))[-2:]
        while position < end:
            if cursor.left:
                position += self._pass_over(span[position : position + cursor.left])
            elif self._walk is not None:
                field = bytes(span[position : position + self._wanted - len(self._carry)])
                position += len(field)
                cursor.offset += len(field)
                cursor.ahead = span[position:]
                self._look_at(self._walk, self._carry + field)
                position = end - len(cursor.ahead)
            else:
                raise _broken("image-end", f"bytes follow the end of the {cursor.format} image", cursor.offset)

    def _pass_over(self, stretch: bytes | memoryview | bytearray) -> int:
        cursor, size = self._cursor, len(stretch)
        if cursor.summing:
            cursor.crc = crc32(stretch, cursor.crc)
        cursor.left -= size
        cursor.offset += size
        return size

    def _look_at(self, walk: _Walk, field: bytes) -> None:
        if len(field) < self._wanted:
            self._carry = field
            return
        self._carry = b""
        try:
            self._wanted = walk.send(field)
        except StopIteration:
            self._walk = None


def _broken(check: str, words: str, at: int) -> ProtocolError:
    return ProtocolError(check, f"{words}, at byte {at} of the image")


def _unknown(beginning: bytes) -> ProtocolError:
    return _broken("image", f"no PNG, JPEG or WebP begins with {beginning[:8]!r}", 0)


def _may_begin(beginning: bytes) -> bool:
    return any(beginning.startswith(sign[: len(beginning)]) for sign in (_PNG, _JPEG, _RIFF))


def _walk(cursor: _Cursor) -> _Walk:
    beginning = yield 4
    if beginning == _RIFF:
        yield from _walk_webp(cursor)
    elif beginning.startswith(_JPEG):
        yield from _walk_jpeg(cursor, beginning[3])
    else:
        beginning += yield from _field(cursor, 4)
        if beginning != _PNG:
            raise _unknown(beginning)
        yield from _walk_png(cursor)


def _walk_png(cursor: _Cursor) -> _Walk:
    _read_ihdr(cursor, (yield from _field(cursor, 25)))
    cursor.summing = cursor.checksums
    picture = 0
    head = yield from _field(cursor, 8)
    while True:
        length, name, picture = _past_whole_chunks(cursor, int.from_bytes(head[:4], "big"), head[4:], picture)
        cursor.crc, cursor.left = crc32(name), length
        # The checksum of one chunk and the head of the next are one field: a step less for each chunk.
        after = (yield from _field(cursor, 4)) if name == b"IEND" else (yield _BETWEEN.size)
        if cursor.summing and cursor.crc != int.from_bytes(after[:4], "big"):
            raise _damaged(name, cursor.offset - len(after))
        if name == b"IEND":
            return
        head = after[4:]


def _field(cursor: _Cursor, size: int) -> Generator[int, bytes, bytes]:
    """Take a field at once if all of it is here; nothing may be left to pass over before it."""
    ahead = cursor.ahead
    if len(ahead) < size:
        return (yield size)
    cursor.ahead = ahead[size:]
    cursor.offset += size
    return bytes(ahead[:size])


def _past_whole_chunks(cursor: _Cursor, length: int, name: bytes, picture: int) -> tuple[int, bytes, int]:
    """Pass over the chunks that are all here, at once: most encoders make hundreds of them.

    Args:
        cursor: Stands behind the head of the first chunk.
        length: Of its data.
        name: Its name.
        picture: Bytes of IDAT data before it.

    Returns:
        The same three for the chunk that is the last, or not all here.
    """
    ahead, at, stop = cursor.ahead, 0, len(cursor.ahead) - _BETWEEN.size
    while True:
        if name != b"IDAT" or length > _LONGEST_CHUNK:
            _check_chunk(length, name, picture, cursor.offset + at - 8)
        else:
            picture += length
        end = at + length
        if name == b"IEND" or end > stop:
            break
        told, following, next_name = _BETWEEN.unpack_from(ahead, end)
        if cursor.summing and crc32(ahead[at:end], _IDAT_SUM if name == b"IDAT" else crc32(name)) != told:
            raise _damaged(name, cursor.offset + end)
        at, length, name = end + _BETWEEN.size, following, next_name
    cursor.ahead = ahead[at:]
    cursor.offset += at
    return length, name, picture


def _read_ihdr(cursor: _Cursor, chunk: bytes) -> None:
    if chunk[:8] != b"\x00\x00\x00\x0dIHDR":
        raise _broken("image", f"a PNG begins with an IHDR chunk of 13 bytes, not with {chunk[:8]!r}", 8)
    if cursor.checksums and crc32(chunk[4:21]) != int.from_bytes(chunk[21:], "big"):
        raise _damaged(b"IHDR", 29)
    depth, colour, compression, filtering, interlace = chunk[16:21]
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise _broken("image", f"the PNG header holds impossible fields, {chunk[16:21].hex(' ')}", 24)
    cursor.found("png", int.from_bytes(chunk[8:12], "big"), int.from_bytes(chunk[12:16], "big"))


def _check_chunk(length: int, name: bytes, picture: int, at: int) -> None:
    if not _CHUNK_NAME.fullmatch(name):
        raise _broken("image", f"{name!r} names no PNG chunk", at)
    if length > _LONGEST_CHUNK or name == b"IHDR" or (name == b"IEND" and length):
        raise _broken("image", f"no {name.decode('ascii')} chunk of {length} bytes may stand here", at)
    if name == b"IEND" and not picture:
        raise _broken("image-end", "the PNG ends before any IDAT data", at)


def _damaged(name: bytes, at: int) -> ProtocolError:
    return _broken("image-checksum", f"the checksum of the {name.decode('ascii')} chunk does not match", at)


def _walk_jpeg(cursor: _Cursor, marker: int) -> _Walk:
    while True:
        marker = yield from _past_fill(cursor, marker)
        if marker == _END_OF_IMAGE:
            raise _broken("image-end", "the JPEG ends before any picture data", cursor.offset)
        if marker not in _LONE_MARKERS:
            yield from _enter_segment(cursor, marker)
        if marker == _START_OF_SCAN:
            break
        pair = yield 2
        if pair[0] != _FILL:
            raise _broken("image", f"{pair!r} is no JPEG marker", cursor.offset - 2)
        marker = pair[1]
    yield 3
    # Entropy-coded data has no lengths to walk by; that it is all there shows only in its last two bytes.
    cursor.ending, cursor.left = bytes((_FILL, _END_OF_IMAGE)), sys.maxsize
    yield 1


def _past_fill(cursor: _Cursor, marker: int) -> Generator[int, bytes, int]:
    fill = 0
    while marker == _FILL and fill < _MOST_FILL:
        marker = (yield 1)[0]
        fill += 1
    if marker in _NO_MARKERS:
        raise _broken("image", f"{bytes((_FILL, marker))!r} is no JPEG marker", cursor.offset - 2)
    return marker


def _enter_segment(cursor: _Cursor, marker: int) -> _Walk:
    at = cursor.offset
    length = int.from_bytes((yield 2), "big") - 2
    if marker in _START_OF_FRAME and length >= len("PHHWWC"):
        frame = yield len("PHHWWC")
        length -= len(frame)
        cursor.found("jpeg", int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big"))
    elif length < 0 or marker in _START_OF_FRAME:
        raise _broken("image", f"the JPEG segment of marker {marker:#x} is too short", at)
    if marker == _START_OF_SCAN and not cursor.format:
        raise _broken("image-size", "the JPEG holds picture data before its frame header", at)
    cursor.left = length


def _walk_webp(cursor: _Cursor) -> _Walk:
    rest = yield 8
    if rest[4:] != _WEBP:
        raise _unknown(_RIFF + rest)
    end, pictures = 8 + int.from_bytes(rest[:4], "little"), 0
    at = cursor.offset
    while at < end:
        head = yield 8
        name, length = head[:4], int.from_bytes(head[4:], "little")
        if at + 8 + length > end:
            raise _broken("image", f"the WebP chunk {name!r} is longer than its file", at)
        # The last chunk's padding byte is missing in files of some writers.
        padded = min(length + length % 2, end - at - 8)
        seen = 0 if cursor.format else (yield from _read_webp_head(cursor, name, length))
        pictures += name in _WEBP_PICTURES
        cursor.left = padded - seen
        at += 8 + padded
    if not pictures:
        raise _broken("image-end", "the WebP ends before any picture data", cursor.offset)


def _read_webp_head(cursor: _Cursor, name: bytes, length: int) -> Generator[int, bytes, int]:
    wanted = {b"VP8 ": 10, b"VP8L": 5, b"VP8X": 10}.get(name)
    if wanted is None or length < wanted:
        raise _broken("image", f"no WebP begins with a chunk {name!r} of {length} bytes", cursor.offset - 8)
    field = yield wanted
    cursor.found("webp", *_WEBP_SIZES[name](field, cursor.offset - wanted))
    return wanted


def _vp8_size(field: bytes, at: int) -> tuple[int, int]:
    if field[0] & 1 or field[3:6] != b"\x9d\x01\x2a":
        raise _broken("image", "the VP8 data does not begin with a key frame", at)
    width, height = int.from_bytes(field[6:8], "little"), int.from_bytes(field[8:10], "little")
    return width & _MOST_WEBP_SIDE, height & _MOST_WEBP_SIDE


def _vp8l_size(field: bytes, at: int) -> tuple[int, int]:
    if not field.startswith(b"/"):
        raise _broken("image", "the VP8L data does not begin with its signature", at)
    bits = int.from_bytes(field[1:5], "little")
    return (bits & _MOST_WEBP_SIDE) + 1, (bits >> 14 & _MOST_WEBP_SIDE) + 1


def _vp8x_size(field: bytes, _at: int) -> tuple[int, int]:
    return int.from_bytes(field[4:7], "little") + 1, int.from_bytes(field[7:10], "little") + 1


_WEBP_SIZES = {b"VP8 ": _vp8_size, b"VP8L": _vp8l_size, b"VP8X": _vp8x_size}
