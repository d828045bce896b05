"""The seal: what a run notes of the journal's file as it closes it, so that the next one knows it again.

SQLite cannot see a flipped bit in the middle of a row. A checksum of the whole file can: a run that ended well leaves
one beside it, and the next takes it away before it writes. A run that was killed leaves none. A seal that is itself
damaged counts as none.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Seal", "break_seal", "read_seal", "seal_of", "write_seal"]

_CHUNK = 1 << 20


@attrs.frozen
class Seal:
    """Length and CRC-32 of a file."""

    size: int
    crc: int


def seal_of(path: Path) -> Seal:
    """Read all of a file, a chunk in memory at a time; 0.4 s for the 690 MB of a million jobs.

    Raises:
        OSError: It cannot be read.
    """
    size = crc = 0
    buffer = memoryview(bytearray(_CHUNK))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            crc = zlib.crc32(buffer[:count], crc)
            size += count
    return Seal(size, crc)


def read_seal(path: Path) -> Seal | None:
    """Return the seal beside the journal at `path`, or None if there is none that can be relied on.

    Raises:
        OSError: It cannot be read.
    """
    try:
        text = _place(path).read_bytes()
    except FileNotFoundError:
        return None
    try:
        size, crc = (int(word, 16) for word in text.split()[:2])
    except ValueError:
        return None
    seal = Seal(size, crc)
    return seal if text == _text(seal) else None


def write_seal(path: Path) -> None:
    """Leave a seal beside the journal at `path`, which nobody writes to any more and whose seal has been broken.

    It need not be durable: where the disk fails, or the power, there is none, and the next run looks more closely.
    """
    with suppress(OSError), _place(path).open("xb") as file:
        file.write(_text(seal_of(path)))


def break_seal(path: Path) -> bool:
    """Take the seal away; the journal may be written to once the folder has been synced.

    Returns:
        Whether there was one.

    Raises:
        OSError: It cannot be removed.
    """
    try:
        _place(path).unlink()
    except FileNotFoundError:
        return False
    return True


def _place(path: Path) -> Path:
    return path.with_name(path.name + "-seal")


def _text(seal: Seal) -> bytes:
    told = f"{seal.size:x} {seal.crc:08x}"
    return f"{told} {zlib.crc32(told.encode()):08x}\n".encode()
