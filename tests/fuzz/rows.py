"""Checks what every source reader promises of its rows, for any input."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

from imagen_async.batch.parts import digest, split
from imagen_async.batch.sources.lines import Line, read_lines
from imagen_async.batch.sources.rows import MAX_IMAGES, BadRow, Row, Terms
from imagen_async.exceptions import ConfigurationError, InvalidInputError
from imagen_async.request import check_request
from imagen_async.wire.families.imagen import encode_request
from tests.fuzz.cutting import chance_of

__all__ = ["Reader", "Rows", "collected", "read", "read_either_way", "short_lines"]

Rows = list[Row | BadRow]
Reader = Callable[[Iterable[Line], Terms, str], Iterator[Row | BadRow]]

_LONGEST_SENTENCE = 2000
"""Characters of one sentence about a row: it quotes a little of what the row holds, and no more."""
_SHORT = 48


def collected(rows: Iterable[Row | BadRow]) -> tuple[Rows, str | None]:
    """Return the valid rows up to the end or to a refusal of the file, and the refusal's message."""
    found: Rows = []
    try:
        for row in rows:
            assert not found or row.line > found[-1].line
            _look_at(row)
            found.append(row)
    except InvalidInputError as error:
        for _, problems in error.problems:
            _look_at_words(problems)
        return found, str(error)
    except ConfigurationError as error:
        _look_at_words([str(error)])
        return found, str(error)
    return found, None


def read(reader: Reader, data: bytes) -> tuple[Rows, str | None]:
    """Read a file that arrives in one piece."""
    return collected(reader(read_lines(io.BytesIO(data), "prompts"), Terms(), "prompts"))


def read_either_way(reader: Reader, data: bytes) -> tuple[Rows, str | None]:
    """Read a file in one piece and in small reads, which must not differ."""
    rows = read(reader, data)
    dripping = io.BufferedReader(_Drip(data), buffer_size=7)
    assert collected(reader(read_lines(dripping, "prompts"), Terms(), "prompts")) == rows
    return rows


@contextmanager
def short_lines() -> Iterator[None]:
    """Let a line be too long at 48 bytes already, so that a short input meets the limit."""
    with (
        patch("imagen_async.batch.sources.lines.LINE_LIMIT", _SHORT),
        patch("imagen_async.batch.sources.readers.LINE_LIMIT", _SHORT),
    ):
        yield


class _Drip(io.RawIOBase):
    """A raw stream that returns a few bytes at a time."""

    def __init__(self, data: bytes) -> None:
        self._left = memoryview(data)
        self._chance = chance_of(data)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override] # any writable buffer will do
        size = min(len(buffer), len(self._left), 1 + self._chance.randrange(9))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size


def _look_at(row: Row | BadRow) -> None:
    if isinstance(row, BadRow):
        assert row.problems
        _look_at_words(row.problems)
        return
    _look_at_words(row.notes)
    assert not check_request(row.request, max_n=MAX_IMAGES).problems
    assert json.loads(json.dumps(row.metadata, allow_nan=False).encode("utf-8")) == row.metadata
    parts = split(row)
    first = next(parts)
    json.loads(encode_request(first.request))
    assert len(digest(first.request)) == len(digest(row.request))


def _look_at_words(sentences: Iterable[str]) -> None:
    for sentence in sentences:
        assert sentence.isprintable(), sentence
        assert len(sentence) <= _LONGEST_SENTENCE, len(sentence)
