"""A source on a disk: a compressed file gives the same rows, and a truncated one is never accepted as complete."""

from __future__ import annotations

import gzip
import shutil
import tempfile
from pathlib import Path

from imagen_async.batch.sources.readers import read_jsonl
from imagen_async.batch.sources.rows import BadRow, Row
from imagen_async.batch.sources.source import Report, Source, open_source
from imagen_async.exceptions import ConfigurationError, InvalidInputError
from tests.fuzz.cutting import chance_of
from tests.fuzz.rows import collected, read
from tests.fuzz.targets import lines

__all__ = ["LONGEST", "WORDS", "check"]

LONGEST = 2048
WORDS = (*lines.WORDS, b"\x1f\x8b\x08\x00", b"\x1f\x8b\x08\x08", b"PK\x03\x04", b"PAR1", b"\xfe\xff")


def check(data: bytes) -> None:
    """Read `data` as a packed file, and packed, and packed and then cut off."""
    folder = Path(tempfile.mkdtemp(prefix="imagen-fuzz-"))
    try:
        collected(_source(folder / "as-it-is.jsonl.gz", data).rows())
        packed = gzip.compress(data, 1, mtime=0)
        _agree(_source(folder / "prompts.jsonl.gz", packed), read(read_jsonl, data))
        _cut_off(_source(folder / "cut.jsonl.gz", packed[: chance_of(data).randrange(1, len(packed))]), data)
    finally:
        shutil.rmtree(folder)


def _source(path: Path, data: bytes) -> Source:
    path.write_bytes(data)
    return open_source(path)


def _agree(source: Source, expected: tuple[list[Row | BadRow], str | None]) -> None:
    rows, refused = collected(source.rows())
    assert rows == expected[0]
    assert (refused is None) == (expected[1] is None)
    report = _checked(source)
    assert (report is None) == (refused is not None)
    if report is not None:
        assert (report.rows, report.bad) == (len(rows), sum(isinstance(row, BadRow) for row in rows))
        assert report.images == sum(row.request.n for row in rows if isinstance(row, Row))


def _checked(source: Source) -> Report | None:
    try:
        return source.check()
    except (ConfigurationError, InvalidInputError):
        return None


def _cut_off(source: Source, data: bytes) -> None:
    """Rows before the cut may be read, but the cut is reported."""
    rows, refused = collected(source.rows())
    assert refused is not None
    whole, _ = read(read_jsonl, data)
    assert rows == whole[: len(rows)]
