"""The formats with one row a line: prompts, JSON lines, and a stream of unknown format."""

from __future__ import annotations

import io

import attrs

from imagen_async.batch.sources.readers import read_jsonl, read_text, read_unnamed
from imagen_async.batch.sources.rows import Row
from tests.fuzz.rows import Reader, Rows, read, read_either_way, short_lines

__all__ = ["LONGEST", "WORDS", "check"]

LONGEST = 2048
WORDS = (
    b'{"prompt": "', b'"prompt":', b'"PROMPT":', b'"n":', b'"id":', b'"model":', b'"style":', b'"extra":', b'"seed"',
    b'"aspect_ratio":', b'"16:9"', b'"output_format":', b'"jpeg"', b"imagen-3.0-generate-001", b"imagegeneration@002",
    b"NaN", b"1e999", b"null", b"\\ud800", b"\\u0000", b"\x00", b"\xff", b"\xef\xbb\xbf", b"\r\n", b"\xe2\x80\xa8",
    b"[[[[",
)  # fmt: skip


def check(data: bytes) -> None:
    """Read `data` in all three ways, with lines of any length and with short ones only."""
    for reader in (read_text, read_jsonl, read_unnamed):
        rows, refused = read_either_way(reader, data)
        if refused is None and reader is not read_unnamed:
            _costs_itself_only(reader, data, rows)
        with short_lines():
            read_either_way(reader, data)
    _to_the_letter(data)


def _costs_itself_only(reader: Reader, data: bytes, rows: Rows) -> None:
    """Each line gives the same row alone as among other lines."""
    alone: Rows = []
    for number, line in enumerate(io.BytesIO(data.removeprefix(b"\xef\xbb\xbf")), 1):
        # An empty line before it, because the first line of a file may decide its format.
        alone += [attrs.evolve(row, line=number) for row in read(reader, b"\n" + line)[0]]
    assert alone == rows


def _to_the_letter(data: bytes) -> None:
    """A good row of a text file is its line, and nothing is lost between the rows."""
    try:
        lines = data.decode("utf-8").removeprefix("\ufeff").split("\n")
    except UnicodeDecodeError:
        return
    rows, refused = read(read_text, data)
    if refused is None:
        assert [row.line for row in rows] == [at for at, line in enumerate(lines, 1) if line.strip() or "\0" in line]
        for row in rows:
            assert not isinstance(row, Row) or row.request.prompt == _without_return(lines, row.line - 1)


def _without_return(lines: list[str], at: int) -> str:
    """Return a line without its end, which may be CR LF; a CR at the very end of a file counts as one."""
    return lines[at].removesuffix("\r")
