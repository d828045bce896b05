"""Writes and reads the stamp of a sandbox image: its prompt, index and request id.

No image library is needed. The stamp of a PNG is an iTXt chunk after the header, that of a JPEG COM segments after the
first segment, that of a WebP a chunk at the end. Decoders skip all three.
"""

from __future__ import annotations

import json
import struct
import zlib
from typing import TYPE_CHECKING, Any

from imagen_async.exceptions import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["read_stamp", "stamp_after", "stamped_head"]

# 20 characters, so that the overhead of a JPEG segment (with 4 bytes of marker and length) is a multiple of three.
KEYWORD = b"imagen-async sandbox"
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_HEAD = len(PNG_SIGNATURE) + 25
JPEG_SIGNATURE = b"\xff\xd8"
JPEG_COMMENT = 0xFE
JPEG_START_OF_SCAN = 0xDA
LONGEST_COMMENT = 60_000
WEBP_CHUNK = b"IMSB"


def stamp_after(data: bytes) -> int:
    """Return the number of bytes before the stamp, which `stamped_head` needs."""
    if data.startswith(PNG_SIGNATURE):
        return PNG_HEAD
    if data.startswith(JPEG_SIGNATURE):
        return 4 + int.from_bytes(data[4:6])
    return len(data)


def stamped_head(head: bytes, facts: Mapping[str, Any], *, remainder: int = 0) -> bytes:
    """Return `head` with the stamp after it, padded so that its length modulo 3 is `remainder`; a WebP's may differ.

    With a remainder of 0 the base64 of the following bytes does not depend on the stamp, and can be kept.

    Args:
        head: The first `stamp_after` bytes of an image.
        facts: Content of the stamp, a small JSON object.
        remainder: 0, 1 or 2.
    """
    text = json.dumps(facts, ensure_ascii=False).encode()
    padded = [_with_text(head, text + b" " * padding) for padding in range(3)]
    return next((head for head in padded if len(head) % 3 == remainder), padded[0])


def _with_text(head: bytes, text: bytes) -> bytes:
    if head.startswith(PNG_SIGNATURE):
        body = b"iTXt" + KEYWORD + b"\0\0\0\0\0" + text
        return head + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    if head.startswith(JPEG_SIGNATURE):
        return head + b"".join(_comment(text[at : at + LONGEST_COMMENT]) for at in range(0, len(text), LONGEST_COMMENT))
    return _with_webp_chunk(head, text)


def _comment(text: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, JPEG_COMMENT, 2 + len(KEYWORD) + len(text)) + KEYWORD + text


def _with_webp_chunk(data: bytes, text: bytes) -> bytes:
    # RIFF chunks have even lengths; the size after "RIFF" covers the rest of the file.
    even = text if len(text) % 2 == 0 else text + b" "
    grown = data[8:] + WEBP_CHUNK + struct.pack("<I", len(even)) + even
    return b"RIFF" + struct.pack("<I", len(grown)) + grown


def read_stamp(data: bytes) -> dict[str, Any]:
    """Return the stamp of an image that a sandbox made.

    Args:
        data: The image file, PNG, JPEG or WebP.

    Returns:
        ``{"prompt": …, "index": …, "request_id": …}``.

    Raises:
        ProtocolError: The bytes have no stamp.
    """
    if data.startswith(PNG_SIGNATURE):
        text = b"".join(_png_texts(data))
    elif data.startswith(JPEG_SIGNATURE):
        text = b"".join(_jpeg_texts(data))
    else:
        text = b"".join(_webp_texts(data))
    try:
        facts = json.loads(text)
    except ValueError:
        raise ProtocolError("stamp", "this is not an image that a sandbox made: it has no stamp") from None
    return dict(facts)


def _png_texts(data: bytes) -> Iterator[bytes]:
    at = len(PNG_SIGNATURE)
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4])
        start = at + 8
        if data[at + 4 : start] == b"iTXt" and data.startswith(KEYWORD + b"\0", start):
            # After the keyword: a zero, two bytes of compression, and language and translation, both empty.
            yield data[start + len(KEYWORD) + 5 : start + length]
        at += 12 + length


def _jpeg_texts(data: bytes) -> Iterator[bytes]:
    at = len(JPEG_SIGNATURE)
    while at + 4 <= len(data) and data[at + 1] != JPEG_START_OF_SCAN:
        length = int.from_bytes(data[at + 2 : at + 4])
        segment = data[at + 4 : at + 2 + length]
        if data[at + 1] == JPEG_COMMENT and segment.startswith(KEYWORD):
            yield segment[len(KEYWORD) :]
        at += 2 + length


def _webp_texts(data: bytes) -> Iterator[bytes]:
    at = 12
    while at + 8 <= len(data):
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == WEBP_CHUNK:
            yield data[at + 8 : at + 8 + length]
        at += 8 + length + length % 2
