"""The text tables: CSV agrees with the csv module where that accepts the file, and TSV has one row a line."""

from __future__ import annotations

import csv

from imagen_async.batch.sources.readers import read_csv, read_tsv
from imagen_async.batch.sources.rows import Row
from tests.fuzz.rows import read_either_way, short_lines

__all__ = ["LONGEST", "WORDS", "check"]

LONGEST = 2048
WORDS = (
    b"prompt,n\n", b"Prompt\tn\n", b'"prompt"\t"n"\n', b"id,", b",extra", b'"{""seed"":1}"', b'""', b'"', b"\t",
    b"\r\n",
    b",", b"style", b"imagegeneration@002", b"watercolor", b"aspect_ratio", b"16:9", b"\x00", b"\xff", b"\xef\xbb\xbf",
    b"\r", b" ", b"+3", b"10000", b"\xc2\x85", b"\xe2\x80\xa8",
)  # fmt: skip


def check(data: bytes) -> None:
    """Read `data` as CSV and as TSV, with lines of any length and with short ones only."""
    for reader in (read_csv, read_tsv):
        rows, refused = read_either_way(reader, data)
        if refused is None and reader is read_csv:
            _agree(data, [row for row in rows if isinstance(row, Row)])
        with short_lines():
            read_either_way(reader, data)


def _agree(data: bytes, rows: list[Row]) -> None:
    """Each good row has the prompt that the csv module reads in the record that ends where it does."""
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
        lines = text.split("\n")
        reader = csv.reader((line + "\n" for line in lines), strict=True)
        records = [record for record in reader if any(cell.strip() for cell in record)]
    except (UnicodeDecodeError, csv.Error):
        return
    if not records:
        assert not rows
        return
    at = [name.strip().casefold() for name in records[0]].index("prompt")
    prompts = iter([record[at] for record in records[1:] if at < len(record)])
    # A row may be bad for reasons of its own, so the good ones are some of the records, in order.
    assert all(row.request.prompt in prompts for row in rows)
