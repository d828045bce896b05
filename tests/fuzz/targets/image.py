"""The inspector of images: every chunking gives the same verdict, and for PNG that of a reader of complete files."""

from __future__ import annotations

import struct
import zlib

from imagen_async.exceptions import ProtocolError
from imagen_async.wire.image import MOST_PIXELS, Facts, Inspector
from tests.fuzz.cutting import chance_of, ways

__all__ = ["LONGEST", "WORDS", "check"]

LONGEST = 4096
WORDS = (
    b"\x89PNG\r\n\x1a\n", b"\x00\x00\x00\x0dIHDR", b"\x00\x00\x00\x00IEND\xaeB`\x82", b"IDAT", b"tEXt",
    b"\x08\x02\x00\x00\x00",
    b"\xff\xd8\xff", b"\xff\xd9", b"\xff\xda", b"\xff\xc0\x00\x0b\x08", b"\xff\xe0", b"\xff\xff", b"\xff\x01",
    b"RIFF", b"WEBP", b"VP8 ", b"VP8L", b"VP8X", b"ANMF", b"\x9d\x01\x2a", b"ALPH", b"\xff\xff\xff\xff",
)  # fmt: skip

_MAGIC = {"png": b"\x89PNG", "jpeg": b"\xff\xd8\xff", "webp": b"RIFF"}
_DEPTHS = {0: {1, 2, 4, 8, 16}, 2: {8, 16}, 3: {1, 2, 4, 8}, 4: {8, 16}, 6: {8, 16}}
_Verdict = Facts | tuple[str, str]


def check(image: bytes) -> None:
    """Inspect `image` however it is cut, with and without its checksums, and a beginning of it."""
    strict, lax = _one_verdict(image, checksums=True), _one_verdict(image, checksums=False)
    assert strict == lax or not isinstance(strict, Facts)
    for verdict, checksums in ((strict, True), (lax, False)):
        if isinstance(verdict, Facts):
            _agrees(verdict, image)
        if image.startswith(_MAGIC["png"]):
            assert (isinstance(verdict, Facts) and (verdict.width, verdict.height)) == _png(image, checksums=checksums)
    _cut_off(image, lax)


def _agrees(facts: Facts, image: bytes) -> None:
    assert image.startswith(_MAGIC[facts.format])
    assert facts.size == len(image)
    assert 0 < facts.width * facts.height <= MOST_PIXELS


def _cut_off(image: bytes, whole: _Verdict) -> None:
    """A truncated valid image is refused; a truncated JPEG may be a complete one."""
    if isinstance(whole, Facts) and whole.format != "jpeg":
        part = _verdict([image[: chance_of(image).randrange(len(image))]], checksums=False)
        assert part[0] == "image-end" if isinstance(part, tuple) else False, part
    if isinstance(whole, Facts):
        assert isinstance(_verdict([image, b"\0"], checksums=False), tuple)


def _one_verdict(image: bytes, *, checksums: bool) -> _Verdict:
    verdicts = [_verdict(spans, checksums=checksums) for spans in ways(image)]
    assert all(verdict == verdicts[0] for verdict in verdicts), verdicts
    return verdicts[0]


def _verdict(spans: list[bytes], *, checksums: bool) -> _Verdict:
    inspector = Inspector(checksums=checksums)
    try:
        for span in spans:
            inspector.feed(span)
        return inspector.finish()
    except ProtocolError as error:
        assert str(error).isprintable()
        return error.check, error.message


def _png(image: bytes, *, checksums: bool) -> tuple[int, int] | bool:
    """Return whether a complete PNG follows the specification."""
    chunks = list(_chunks(image, checksums=checksums))
    names = [name for name, _ in chunks]
    if not names or names[0] != b"IHDR" or names.count(b"IHDR") > 1 or names[-1] != b"IEND":
        return False
    head, end = chunks[0][1], chunks[-1][1]
    if len(head) != 13 or end or not any(data for name, data in chunks if name == b"IDAT"):
        return False
    width, height, depth, colour, compression, filtering, interlace = struct.unpack(">IIBBBBB", head)
    possible = depth in _DEPTHS.get(colour, ()) and not compression and not filtering and interlace < 2
    return (width, height) if possible and 0 < width * height <= MOST_PIXELS else False


def _chunks(image: bytes, *, checksums: bool) -> list[tuple[bytes, bytes]]:
    """Split a PNG into its chunks; none if it does not consist of complete chunks."""
    found: list[tuple[bytes, bytes]] = []
    at = 8
    if image[:8] != b"\x89PNG\r\n\x1a\n":
        return []
    while at < len(image) and (not found or found[-1][0] != b"IEND"):
        length, name = int.from_bytes(image[at : at + 4], "big"), image[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(image) or not (name.isalpha() and name.isascii()):
            return []
        if checksums and zlib.crc32(image[at + 4 : end - 4]) != int.from_bytes(image[end - 4 : end], "big"):
            return []
        found.append((name, image[at + 8 : end - 4]))
        at = end
    return found if at == len(image) else []
