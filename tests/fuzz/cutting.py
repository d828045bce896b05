"""Cuts an input in ways that are drawn from the input itself, so that each is repeatable."""

from __future__ import annotations

import random
import zlib
from typing import TYPE_CHECKING

from tests.strategies import cut

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["chance_of", "ways"]

_BYTE_BY_BYTE = 192


def chance_of(data: bytes) -> random.Random:
    """Return randomness that depends on nothing but `data`."""
    return random.Random(zlib.crc32(data))


def ways(data: bytes) -> Iterator[list[bytes]]:
    """Cut `data` in several ways: not at all, at a few places, and, if it is short, at every byte."""
    yield [data]
    chance = chance_of(data)
    yield cut(data, [chance.randrange(len(data) + 1) for _ in range(1 + chance.randrange(12))])
    yield cut(data, [chance.randrange(len(data) + 1) for _ in range(2)])
    if len(data) <= _BYTE_BY_BYTE:
        yield [data[at : at + 1] for at in range(len(data))]
