"""The canned image: a valid PNG of an exact number of bytes that no compression makes smaller.

Noise rows carry the weight, flat rows fill the rest of the frame, a private chunk of noise brings the file to the
byte. The frame is 1024×1024 as a gateway's are, or 16×16 where that would be too heavy. It knows nothing of servers
or contenders; the same size gives the same bytes.
"""

from __future__ import annotations

import random
import struct
import zlib

__all__ = ["SMALLEST", "png"]

SMALLEST = 1_000
"""Bytes; a tiny frame full of noise and the chunks' own words fit into less."""
_USUAL = 20_000
"""Bytes from which on the frame is of the usual size: flat but for one row of noise it fits into less."""


def png(size: int, *, seed: int = 0) -> bytes:
    """Make an RGB image of exactly `size` bytes.

    Args:
        size: Bytes, at least `SMALLEST`. Above 3 MB, and below 20 kB, the private chunk takes the excess.
        seed: Another seed gives another image of the same size.

    Raises:
        ValueError: If `size` is too small.

    Example:
        >>> len(png(100_000))
        100000
    """
    if size < SMALLEST:
        raise ValueError(f"an image of {size} bytes is too small: {SMALLEST} is the least")
    noise = random.Random(seed)
    side, rest = (1024, _USUAL // 2) if size >= _USUAL else (16, 0)
    row = 1 + 3 * side
    noisy = min(side, (size - rest) // row)
    rows = b"".join(b"\0" + noise.randbytes(row - 1) for _ in range(noisy)) + bytes(row * (side - noisy))
    head = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    pixels = _chunk(b"IDAT", zlib.compress(rows))
    end = _chunk(b"IEND", b"")
    missing = size - len(head) - len(pixels) - len(end) - len(_chunk(b"noIs", b""))
    return head + _chunk(b"noIs", noise.randbytes(missing)) + pixels + end


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
