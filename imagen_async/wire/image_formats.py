"""The frames of image formats: a walk over chunks or segments for each format, with their checks.

Formats: PNG (W3C PNG, third edition), JPEG (ITU-T T.81), WebP (RFC 9649). Pure.
"""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Generator

import attrs

from imagen_async.exceptions import ProtocolError

try:
    # Several times as fast: the extra `speed`.
    from isal.isal_zlib import crc32
except ImportError:
    from zlib import crc32

__all__ = ["NOTHING", "SIGNATURE_SIZE", "Cursor", "Walk", "broken", "crc32", "may_begin", "unknown", "walk"]

_PNG = b"\x89PNG\r\n\x1a\n"
SIGNATURE_SIZE = len(_PNG)
"""Bytes after which the format is known."""
_JPEG = b"\xff\xd8\xff"
_RIFF, _WEBP = b"RIFF", b"WEBP"

_LONGEST_CHUNK = 2**31 - 1
_BETWEEN = struct.Struct(">II4s")
"""Between the data of two PNG chunks: the checksum of one, and length and name of the next."""
_IDAT_SUM = crc32(b"IDAT")
_CHUNK_NAME = re.compile(rb"[A-Za-z]{4}")
_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
"""The bit depths of each PNG colour type."""

_END_OF_IMAGE, _START_OF_SCAN, _FILL = 0xD9, 0xDA, 0xFF
_START_OF_FRAME = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_LONE_MARKERS = frozenset({0x01, *range(0xD0, 0xD8)})
_NO_MARKERS = frozenset({0x00, 0xD8, _FILL})
_MOST_FILL = 1024
"""Fill bytes are read one by one, so their number is limited."""

_WEBP_PICTURES = frozenset({b"VP8 ", b"VP8L", b"ANMF"})
_MOST_WEBP_SIDE = 0x3FFF


NOTHING = memoryview(b"")


@attrs.define
class Cursor:
    """The position of a walk: the inspector moves it; the walk sets what to skip and what it found.

    Attributes:
        offset: Bytes of the image so far.
        left: Bytes to skip before the next field.
        summing: Whether `crc` includes the skipped bytes.
        ending: The last bytes, for a format whose end cannot be recognized otherwise.
        ahead: The rest of the span after the field that was sent; a walk may take complete fields from its front.
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
    ahead: memoryview = NOTHING

    def found(self, kind: str, width: int, height: int) -> None:
        """Set format and size, and check the size."""
        self.format, self.width, self.height = kind, width, height
        if not width or not height:
            raise broken("image-size", f"the image has no area, {width}×{height} pixels", self.offset)
        if width * height > self.max_pixels:
            claim = f"the image claims {width}×{height} pixels, more than the limit of {self.max_pixels}"
            raise broken("image-size", claim, self.offset)


Walk = Generator[int, bytes, None]
"""A walk yields the size of its next field and is sent the field, after `Cursor.left` bytes were skipped."""


def broken(check: str, words: str, at: int) -> ProtocolError:
    """Return the error of a check at a byte of the image."""
    return ProtocolError(check, f"{words}, at byte {at} of the image")


def unknown(beginning: bytes) -> ProtocolError:
    """Return the error for an unknown format."""
    return broken("image", f"no PNG, JPEG or WebP begins with {beginning[:8]!r}", 0)


def may_begin(beginning: bytes) -> bool:
    """Return whether an image of a known format may begin like this."""
    return any(beginning.startswith(sign[: len(beginning)]) for sign in (_PNG, _JPEG, _RIFF))


def walk(cursor: Cursor) -> Walk:
    """Walk over an image of any format."""
    beginning = yield 4
    if beginning == _RIFF:
        yield from _walk_webp(cursor)
    elif beginning.startswith(_JPEG):
        yield from _walk_jpeg(cursor, beginning[3])
    else:
        beginning += yield from _field(cursor, 4)
        if beginning != _PNG:
            raise unknown(beginning)
        yield from _walk_png(cursor)


def _walk_png(cursor: Cursor) -> Walk:
    _read_ihdr(cursor, (yield from _field(cursor, 25)))
    cursor.summing = cursor.checksums
    picture = 0
    head = yield from _field(cursor, 8)
    while True:
        length, name, picture = _skip_chunks(cursor, int.from_bytes(head[:4], "big"), head[4:], picture)
        cursor.crc, cursor.left = crc32(name), length
        # The checksum of one chunk and the head of the next are one field, which saves a step.
        after = (yield from _field(cursor, 4)) if name == b"IEND" else (yield _BETWEEN.size)
        if cursor.summing and cursor.crc != int.from_bytes(after[:4], "big"):
            raise _damaged(name, cursor.offset - len(after))
        if name == b"IEND":
            return
        head = after[4:]


def _field(cursor: Cursor, size: int) -> Generator[int, bytes, bytes]:
    """Return a field directly if it is complete; nothing may be left to skip before it."""
    ahead = cursor.ahead
    if len(ahead) < size:
        return (yield size)
    cursor.ahead = ahead[size:]
    cursor.offset += size
    return bytes(ahead[:size])


def _skip_chunks(cursor: Cursor, length: int, name: bytes, picture: int) -> tuple[int, bytes, int]:
    """Skip all complete chunks in one step: most encoders write hundreds of them.

    Args:
        cursor: Its position is after the head of the first chunk.
        length: Of its data.
        name: Its name.
        picture: Bytes of IDAT data before it.

    Returns:
        The same three for the first chunk that is incomplete or the last.
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


def _read_ihdr(cursor: Cursor, chunk: bytes) -> None:
    if chunk[:8] != b"\x00\x00\x00\x0dIHDR":
        raise broken("image", f"a PNG begins with an IHDR chunk of 13 bytes, not with {chunk[:8]!r}", 8)
    if cursor.checksums and crc32(chunk[4:21]) != int.from_bytes(chunk[21:], "big"):
        raise _damaged(b"IHDR", 29)
    depth, colour, compression, filtering, interlace = chunk[16:21]
    if depth not in _DEPTHS.get(colour, ()) or compression or filtering or interlace > 1:
        raise broken("image", f"the PNG header holds impossible fields, {chunk[16:21].hex(' ')}", 24)
    cursor.found("png", int.from_bytes(chunk[8:12], "big"), int.from_bytes(chunk[12:16], "big"))


def _check_chunk(length: int, name: bytes, picture: int, at: int) -> None:
    if not _CHUNK_NAME.fullmatch(name):
        raise broken("image", f"{name!r} names no PNG chunk", at)
    if length > _LONGEST_CHUNK or name == b"IHDR" or (name == b"IEND" and length):
        raise broken("image", f"no {name.decode('ascii')} chunk of {length} bytes may stand here", at)
    if name == b"IEND" and not picture:
        raise broken("image-end", "the PNG ends before any IDAT data", at)


def _damaged(name: bytes, at: int) -> ProtocolError:
    return broken("image-checksum", f"the checksum of the {name.decode('ascii')} chunk does not match", at)


def _walk_jpeg(cursor: Cursor, marker: int) -> Walk:
    while True:
        marker = yield from _skip_fill(cursor, marker)
        if marker == _END_OF_IMAGE:
            raise broken("image-end", "the JPEG ends before any picture data", cursor.offset)
        if marker not in _LONE_MARKERS:
            yield from _enter_segment(cursor, marker)
        if marker == _START_OF_SCAN:
            break
        pair = yield 2
        if pair[0] != _FILL:
            raise broken("image", f"{pair!r} is not a JPEG marker", cursor.offset - 2)
        marker = pair[1]
    yield 3
    # Entropy-coded data has no lengths; only its last two bytes show that it is complete.
    cursor.ending, cursor.left = bytes((_FILL, _END_OF_IMAGE)), sys.maxsize
    yield 1


def _skip_fill(cursor: Cursor, marker: int) -> Generator[int, bytes, int]:
    fill = 0
    while marker == _FILL and fill < _MOST_FILL:
        marker = (yield 1)[0]
        fill += 1
    if marker in _NO_MARKERS:
        raise broken("image", f"{bytes((_FILL, marker))!r} is not a JPEG marker", cursor.offset - 2)
    return marker


def _enter_segment(cursor: Cursor, marker: int) -> Walk:
    at = cursor.offset
    length = int.from_bytes((yield 2), "big") - 2
    if marker in _START_OF_FRAME and length >= len("PHHWWC"):
        frame = yield len("PHHWWC")
        length -= len(frame)
        cursor.found("jpeg", int.from_bytes(frame[3:5], "big"), int.from_bytes(frame[1:3], "big"))
    elif length < 0 or marker in _START_OF_FRAME:
        raise broken("image", f"the JPEG segment of marker {marker:#x} is too short", at)
    if marker == _START_OF_SCAN and not cursor.format:
        raise broken("image-size", "the JPEG holds picture data before its frame header", at)
    cursor.left = length


def _walk_webp(cursor: Cursor) -> Walk:
    rest = yield 8
    if rest[4:] != _WEBP:
        raise unknown(_RIFF + rest)
    end, pictures = 8 + int.from_bytes(rest[:4], "little"), 0
    at = cursor.offset
    while at < end:
        head = yield 8
        name, length = head[:4], int.from_bytes(head[4:], "little")
        if at + 8 + length > end:
            raise broken("image", f"the WebP chunk {name!r} is longer than its file", at)
        # Some encoders omit the padding byte of the last chunk.
        padded = min(length + length % 2, end - at - 8)
        seen = 0 if cursor.format else (yield from _read_webp_head(cursor, name, length))
        pictures += name in _WEBP_PICTURES
        cursor.left = padded - seen
        at += 8 + padded
    if not pictures:
        raise broken("image-end", "the WebP ends before any picture data", cursor.offset)


def _read_webp_head(cursor: Cursor, name: bytes, length: int) -> Generator[int, bytes, int]:
    wanted = {b"VP8 ": 10, b"VP8L": 5, b"VP8X": 10}.get(name)
    if wanted is None or length < wanted:
        raise broken("image", f"no WebP begins with a chunk {name!r} of {length} bytes", cursor.offset - 8)
    field = yield wanted
    cursor.found("webp", *_WEBP_SIZES[name](field, cursor.offset - wanted))
    return wanted


def _vp8_size(field: bytes, at: int) -> tuple[int, int]:
    if field[0] & 1 or field[3:6] != b"\x9d\x01\x2a":
        raise broken("image", "the VP8 data does not begin with a key frame", at)
    width, height = int.from_bytes(field[6:8], "little"), int.from_bytes(field[8:10], "little")
    return width & _MOST_WEBP_SIDE, height & _MOST_WEBP_SIDE


def _vp8l_size(field: bytes, at: int) -> tuple[int, int]:
    if not field.startswith(b"/"):
        raise broken("image", "the VP8L data does not begin with its signature", at)
    bits = int.from_bytes(field[1:5], "little")
    return (bits & _MOST_WEBP_SIDE) + 1, (bits >> 14 & _MOST_WEBP_SIDE) + 1


def _vp8x_size(field: bytes, _at: int) -> tuple[int, int]:
    return int.from_bytes(field[4:7], "little") + 1, int.from_bytes(field[7:10], "little") + 1


_WEBP_SIZES = {b"VP8 ": _vp8_size, b"VP8L": _vp8l_size, b"VP8X": _vp8x_size}
