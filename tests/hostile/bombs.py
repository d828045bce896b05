"""Bodies that are small while they travel and 300 MB when they are unpacked."""

from __future__ import annotations

import base64
import sys
import zlib
from typing import TYPE_CHECKING, Protocol

import brotli

from tests.pictures import chunk, ihdr, png

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["BOMBS", "PACKERS", "bomb", "packed"]

BLOCK = 2**20
BLOCKS = 300
"""Of these, in a bomb."""


class Packer(Protocol):
    """What packs, a piece at a time."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


class _Brotli:
    """Brotli's compressor under the names of the others."""

    def __init__(self) -> None:
        self._packer = brotli.Compressor(quality=1)

    def compress(self, data: bytes, /) -> bytes:
        return bytes(self._packer.process(data))

    def flush(self) -> bytes:
        return bytes(self._packer.finish())


class _Zstd:
    """Zstandard's compressor; what it is given can be unpacked before more comes."""

    def __init__(self) -> None:
        self._packer = zstd.ZstdCompressor()

    def compress(self, data: bytes, /) -> bytes:
        return self._packer.compress(data, zstd.ZstdCompressor.FLUSH_BLOCK)

    def flush(self) -> bytes:
        return self._packer.flush()


PACKERS: Mapping[str, Callable[[], Packer]] = {
    "gzip": lambda: zlib.compressobj(6, wbits=31),
    "deflate": lambda: zlib.compressobj(6, wbits=15),
    "br": _Brotli,
    "zstd": _Zstd,
}
"""By the name that the header Content-Encoding has for each."""

_BEGUN = base64.b64encode(png(ihdr(1000, 1000), chunk(b"tEXt", b"\0"), b"\x7f\xff\xff\xffIDAT"))
"""The start of an image of 2 GB, up to its data; in complete quanta of base64, so that more text can follow."""
assert not _BEGUN.endswith(b"=")

BOMBS: Mapping[str, tuple[bytes, bytes]] = {
    "an image": (b'{"data":[{"b64_json":"' + _BEGUN, b"A"),
    "no image": (b'{"data":[{"b64_json":"', b"A"),
    "a text": (b'{"data":[],"note":"', b"A"),
    "many texts": (b'{"data":[],"notes":[', b'"A",'),
    "brackets": (b'{"data":[],"notes":[', b"[],["),
    "white space": (b"", b" "),
    "comments": (b"", b": A\n"),
    "rubbish": (b"", b"A"),
}
"""How each begins, and what it goes on with."""


def packed(data: bytes, encoding: str) -> bytes:
    """Compress a complete body."""
    packer, size = PACKERS[encoding](), 2**12
    return b"".join(packer.compress(data[at : at + size]) for at in range(0, len(data), size)) + packer.flush()


def bomb(kind: str, encoding: str, *, blocks: int = BLOCKS) -> bytes:
    """Pack one, without holding it."""
    packer = PACKERS[encoding]()
    begin, more = BOMBS[kind]
    block = more * (BLOCK // len(more))
    return b"".join((packer.compress(begin), *(packer.compress(block) for _ in range(blocks)), packer.flush()))
