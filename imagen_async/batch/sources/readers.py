"""The text formats: reads numbered lines into rows, one row in memory at a time.

CSV follows RFC 4180. TSV has two dialects, which the header distinguishes. If every name in it is quoted, the file is
CSV with tabs. Otherwise a line is a row and quotation marks are characters (IANA text/tab-separated-values;
PartiPrompts is such a file), with one exception: a cell that is quoted as a whole and whose inner marks are doubled,
``"a ""red"" fox"``, is read as ``a "red" fox``, because some exporters quote only where needed.
"""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

import attrs

from imagen_async.batch.sources.columns import Columns, row_of_cells
from imagen_async.batch.sources.lines import LINE_LIMIT, Line
from imagen_async.batch.sources.rows import BadRow, Row, Terms, row_of_json, row_of_text
from imagen_async.exceptions import InvalidInputError, printable

__all__ = ["TEXT_READERS", "read_csv", "read_jsonl", "read_text", "read_tsv", "read_unnamed"]

_UNCLOSED = "a cell opens with a quotation mark and does not close it"


def read_text(lines: Iterable[Line], terms: Terms, _source: str) -> Iterator[Row | BadRow]:
    """Read one prompt a line, unchanged; blank lines are skipped, and there are no comments."""
    for line in lines:
        if line.faults:
            yield BadRow(line.number, line.faults)
        elif line.text.strip():
            yield row_of_text(_without_end(line.text), line.number, terms)


def read_jsonl(lines: Iterable[Line], terms: Terms, _source: str) -> Iterator[Row | BadRow]:
    """Read one JSON object, or one JSON string as the prompt, a line; blank lines are skipped."""
    for line in lines:
        if line.faults:
            yield BadRow(line.number, line.faults)
        elif line.text.strip():
            yield row_of_json(line.text, line.number, terms)


def read_unnamed(lines: Iterable[Line], terms: Terms, source: str) -> Iterator[Row | BadRow]:
    """Read a stream of unknown format: JSON lines if it begins with ``{``, otherwise prompts."""
    lines = iter(lines)
    # Both formats skip blank lines, so those before the first row need not be kept.
    first = next((line for line in lines if line.faults or line.text.strip()), None)
    if first is None:
        return
    read = read_jsonl if first.text.lstrip().startswith("{") else read_text
    yield from read(itertools.chain([first], lines), terms, source)


def read_csv(lines: Iterable[Line], terms: Terms, source: str) -> Iterator[Row | BadRow]:
    """Read comma-separated values; the first row is the header, and quoted cells may hold newlines.

    Raises:
        InvalidInputError: The header cannot be used.
    """
    yield from _rows(_quoted_records(lines, ","), terms, source)


def read_tsv(lines: Iterable[Line], terms: Terms, source: str) -> Iterator[Row | BadRow]:
    """Read tab-separated values; the module describes what a quotation mark means.

    Raises:
        InvalidInputError: The header cannot be used.
    """
    lines = iter(lines)
    header = next((line for line in lines if line.faults or line.text.strip()), None)
    if header is None:
        return
    names = _without_end(header.text).split("\t")
    every = itertools.chain([header], lines)
    if all(_is_wrapped(name.strip()) for name in names):
        records = _quoted_records(every, "\t")
    else:
        records = _literal_records(every, len(names))
    yield from _rows(records, terms, source)


TEXT_READERS: dict[str, Callable[[Iterable[Line], Terms, str], Iterator[Row | BadRow]]] = {
    "txt": read_text,
    "jsonl": read_jsonl,
    "csv": read_csv,
    "tsv": read_tsv,
}
"""Format to its reader."""


@attrs.frozen
class _Record:
    line: int
    cells: Sequence[str]
    faults: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def _rows(records: Iterator[_Record], terms: Terms, source: str) -> Iterator[Row | BadRow]:
    columns: Columns | None = None
    for record in records:
        if record.faults and columns is None:
            raise InvalidInputError(source, [(record.line, record.faults)], 1)
        if record.faults:
            yield BadRow(record.line, record.faults)
        elif not any(cell.strip() for cell in record.cells):
            continue  # spreadsheets export their empty rows as separators alone
        elif columns is None:
            columns = Columns.of(record.cells, source=source, line=record.line)
        else:
            yield row_of_cells(record.cells, columns, record.line, terms, notes=record.notes)


class _RecordTooLongError(Exception):
    """Raised through csv.reader, which would collect an endless record after one stray quotation mark."""


class _Feed:
    """Passes lines to csv.reader, and records where the current record began and its faults."""

    def __init__(self, lines: Iterable[Line]) -> None:
        self._lines = iter(lines)
        self._length = 0
        self.start = 1
        self.faults: list[str] = []

    def begin(self) -> None:
        self._length = 0
        self.faults = []

    def __iter__(self) -> _Feed:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        if not self._length:
            self.start = line.number
        self._length += len(line.text)
        self.faults += line.faults
        if self._length > LINE_LIMIT:
            raise _RecordTooLongError
        return "\n" if line.cut else line.text  # a quotation mark before the cut would consume the following rows


def _quoted_records(lines: Iterable[Line], delimiter: str) -> Iterator[_Record]:
    feed = _Feed(lines)
    reader = csv.reader(feed, delimiter=delimiter, strict=True)
    while True:
        feed.begin()
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            # The reader starts anew at the next line, so a broken row costs only the lines that it had consumed.
            fault = printable(str(error))  # it quotes the separator, which may be a tab
            text = f"the row is not CSV: {fault}; a quoted cell must be closed, and a quotation mark inside it doubled"
            yield _Record(feed.start, (), (*feed.faults, text))
        except _RecordTooLongError:
            text = f"the row is longer than {LINE_LIMIT:,} characters: is a closing quotation mark missing?"
            yield _Record(feed.start, (), (*feed.faults, text))
        else:
            yield _Record(feed.start, cells, tuple(feed.faults))


def _literal_records(lines: Iterable[Line], width: int) -> Iterator[_Record]:
    for line in lines:
        cells = [_unquoted(cell) for cell in _without_end(line.text).split("\t")]
        open_mark = any(cell.startswith('"') and cell.count('"') % 2 for cell in cells)
        faults, notes = line.faults, tuple[str, ...]()
        if open_mark and len(cells) != width:
            faults = (*faults, f"{_UNCLOSED}: a tab or newline inside a cell needs a format that quotes, such as .csv")
        elif open_mark:
            notes = (f"{_UNCLOSED}: it is read as it stands",)
        yield _Record(line.number, cells, faults, notes)


def _unquoted(cell: str) -> str:
    inner = cell[1:-1]
    if not _is_wrapped(cell) or '"' in inner.replace('""', ""):
        return cell
    return inner.replace('""', '"') if '""' in inner or not inner else cell


def _is_wrapped(cell: str) -> bool:
    return len(cell) > 1 and cell.startswith('"') and cell.endswith('"')


def _without_end(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")
