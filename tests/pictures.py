"""Sample images: real ones made with Pillow, and PNGs built chunk by chunk to be broken with care."""

from __future__ import annotations

import functools
import io
import struct
import zlib

from PIL import Image

__all__ = ["SAMPLES", "chunk", "encoded", "ihdr", "png"]


@functools.cache
def encoded(kind: str, width: int = 24, height: int = 16, **options: object) -> bytes:
    """A noisy RGB image in Pillow's format `kind`."""
    noise = Image.effect_noise((width, height), 80).convert("RGB")
    file = io.BytesIO()
    noise.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, data: bytes = b"") -> bytes:
    """One PNG chunk with its true length and checksum."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def ihdr(width: int = 2, height: int = 2, fields: bytes = b"\x08\x02\x00\x00\x00") -> bytes:
    """The header chunk of a PNG."""
    return chunk(b"IHDR", struct.pack(">II", width, height) + fields)


def png(*chunks: bytes) -> bytes:
    """A PNG of these chunks; without any, a whole one."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks or (ihdr(), chunk(b"IDAT", b"pixels"), chunk(b"IEND")))


SAMPLES = {
    "png": [encoded("PNG"), encoded("PNG", optimize=True), png()],
    "jpeg": [encoded("JPEG"), encoded("JPEG", progressive=True), encoded("JPEG", comment=b"\xff\xd9 not the end")],
    "webp": [encoded("WEBP"), encoded("WEBP", lossless=True), encoded("WEBP", exif=b"Exif\0\0MM\0*\0\0\0\b\0\0")],
}
"""Whole images of 24×16 pixels by format, save the last PNG, which is 2×2 and of no real pixels."""
