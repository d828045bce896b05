"""How much of SQLite's log can be trusted: which transactions in it are whole, and whether any were lost.

SQLite reads its log up to the first frame whose checksum is wrong and takes the rest for a commit that a crash cut off.
That is right for the last transaction and for no other: what was committed before it was on disk before the next one
began. So a log that goes on behind a wrong frame was damaged, and SQLite would forget without a word what it had
acknowledged. The format is SQLite's own (https://sqlite.org/fileformat2.html#walformat). Nothing is written here.
"""

from __future__ import annotations

import struct
import sys
from array import array
from typing import BinaryIO

import attrs

__all__ = ["Log", "read_log"]

_HEADER = struct.Struct(">8I")
_FRAME = struct.Struct(">6I")
_ORDERS = {0x377F0682: "little", 0x377F0683: "big"}
"""The byte order of the sums, by the first four bytes."""
_MASK = 0xFFFFFFFF

_Sums = tuple[int, int]


@attrs.frozen(kw_only=True)
class Log:
    """What a log holds.

    Attributes:
        size: Its length in bytes.
        whole: How many of these, from its start, are transactions that SQLite takes; 0 if not even its header is right.
        commits: Frames behind them that end a transaction.
    """

    size: int
    whole: int
    commits: int

    @property
    def damaged(self) -> bool:
        """Whether SQLite would forget what it had acknowledged.

        A transaction begins when the one before it is on disk. So a crash cuts off the last one alone, and leaves at
        most one end of a transaction behind what is whole.
        """
        return self.commits > 1 or (self.whole == 0 and self.size > _HEADER.size)


@attrs.frozen
class _Header:
    order: str
    page_size: int
    salts: tuple[int, ...]
    sums: _Sums


def read_log(file: BinaryIO) -> Log:
    """Read a log from its start, a frame in memory at a time."""
    begun = file.read(_HEADER.size)
    header = _read_header(begun)
    if header is None:
        return Log(size=len(begun) + len(file.read(1)), whole=0, commits=0)
    size = whole = len(begun)
    sums: _Sums | None = header.sums
    commits, frame_size = 0, _FRAME.size + header.page_size
    while len(raw := file.read(frame_size)) == frame_size:
        size += frame_size
        sums = _sums_after(raw, sums, header)
        _, pages, *salts, _, _ = _FRAME.unpack_from(raw)
        if sums is not None and pages:
            whole = size
        elif pages and _is_of_this_log(salts, header):
            commits += 1
    return Log(size=size + len(raw), whole=whole, commits=commits)


def _sums_after(frame: bytes, sums: _Sums | None, header: _Header) -> _Sums | None:
    """Go on with the sums of the frames before it; None if those or its own are wrong."""
    page, _, *salts, first, second = _FRAME.unpack_from(frame)
    if sums is None or page == 0 or tuple(salts) != header.salts:
        return None
    found = _sums(frame[_FRAME.size :], _sums(frame[:8], sums, header.order), header.order)
    return found if found == (first, second) else None


def _is_of_this_log(salts: list[int], header: _Header) -> bool:
    # Both change whenever the log is begun anew, so an older frame has neither; and one may be what is damaged.
    return any(mine == current for mine, current in zip(salts, header.salts, strict=True))


def _read_header(raw: bytes) -> _Header | None:
    if len(raw) < _HEADER.size:
        return None
    magic, _, page_size, _, salt, other_salt, *sums = _HEADER.unpack(raw)
    order = _ORDERS.get(magic)
    if order is None or _sums(raw[:24], (0, 0), order) != tuple(sums):
        return None
    return _Header(order, page_size, (salt, other_salt), (sums[0], sums[1]))


def _sums(data: bytes, before: _Sums, order: str) -> _Sums:
    words = array("I", data)
    if order != sys.byteorder:
        words.byteswap()
    first, second = before
    pairs = iter(words)
    for one, other in zip(pairs, pairs, strict=True):
        first = (first + one + second) & _MASK
        second = (second + other + first) & _MASK
    return first, second
