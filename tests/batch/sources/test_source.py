from __future__ import annotations

import gzip
import io
import json
import os
import sys
import tracemalloc
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from imagen_async.batch.sources.rows import BadRow, Row
from imagen_async.batch.sources.source import Source, open_source
from imagen_async.catalog import CATALOG, Model
from imagen_async.exceptions import ConfigurationError, InvalidInputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

needs_fifo = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes on this system")


def prompts(source: Source) -> list[str]:
    return [row.request.prompt for row in source.rows() if isinstance(row, Row)]


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.fixture
def pipe() -> Iterator[tuple[str, BinaryIO]]:
    """A pipe as process substitution gives it: the path of its reading end, and its writing end."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "wb", buffering=0) as end:
        yield f"/dev/fd/{reading}", end
    os.close(reading)


def written(folder: Path, name: str) -> Path:
    path = folder / name
    if name.endswith(".parquet"):
        pq.write_table(pa.table({"prompt": ["A red fox", "An owl"]}), path)
        return path
    form = "table" if ".csv" in name or ".tsv" in name else "jsonl" if "json" in name.lower() else "txt"
    data = {
        "table": b"Prompt\nA red fox\nAn owl\n",
        "jsonl": b'"A red fox"\n{"prompt": "An owl"}\n',
        "txt": b"A red fox\nAn owl\n",
    }[form]
    path.write_bytes(gzip.compress(data) if name.lower().endswith(".gz") else data)
    return path


@pytest.mark.parametrize(
    "name",
    ["p.txt", "P.TXT", "p.jsonl", "p.ndjson", "p.csv", "p.tsv", "p.parquet", "p.txt.gz", "p.jsonl.gz", "p.csv.GZ"],
)
def test_a_file_is_read_by_its_ending_as_often_as_one_likes(tmp_path: Path, name: str) -> None:
    source = open_source(written(tmp_path, name))
    assert source.rewindable
    assert prompts(source) == prompts(source) == ["A red fox", "An owl"]
    assert source.check().rows == 2


def test_format_overrides_the_ending(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text('{"prompt": "A red fox"}\n')
    assert prompts(open_source(path)) == ['{"prompt": "A red fox"}']
    assert prompts(open_source(path, format="jsonl")) == ["A red fox"]
    assert prompts(open_source(path, format=".JSONL")) == ["A red fox"]


@pytest.mark.parametrize("name", ["prompts", "prompts.json", "prompts.xlsx", "prompts.gz", ".csv"])
def test_an_unknown_ending_says_what_is_known(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("A red fox\n")
    with pytest.raises(ConfigurationError, match="txt, jsonl, csv, tsv, parquet: rename the file, or say --format"):
        open_source(tmp_path / name)


def test_an_unknown_format_is_refused_even_for_a_pipe() -> None:
    with pytest.raises(ConfigurationError, match="the format 'xml'"):
        open_source("-", format="xml")


def test_a_missing_file_and_a_folder_are_reported_immediately(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="there is no such file"):
        open_source(tmp_path / "none.txt")
    with pytest.raises(ConfigurationError, match="is a folder"):
        open_source(tmp_path)
    with pytest.raises(ConfigurationError, match="NUL"):
        open_source("a\0b.txt")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_without_read_permission_is_reported_immediately(tmp_path: Path) -> None:
    path = written(tmp_path, "p.txt")
    path.chmod(0)
    with pytest.raises(ConfigurationError, match="you may not read it"):
        open_source(path)


def test_a_permission_error_is_told_as_such(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "no")

    path = written(tmp_path, "p.txt")
    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(ConfigurationError, match="you may not read it"):
        open_source(path)


def test_a_name_cannot_reach_the_terminal(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        open_source(tmp_path / "\x1b[31m.txt")
    assert "\x1b" not in str(caught.value)


def test_defaults_and_catalog_hold_for_every_row(tmp_path: Path) -> None:
    path = written(tmp_path, "p.txt")
    source = open_source(path, defaults={"model": "mine", "n": 7}, catalog=CATALOG.extended(Model(id="mine")))
    assert [(row.request.n, row.notes) for row in source.rows() if isinstance(row, Row)] == [(7, ()), (7, ())]
    with pytest.raises(ConfigurationError, match="colour"):
        open_source(path, defaults={"colour": "red"})


# --- the first pass


def test_the_check_counts_rows_images_and_problems(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    rows = [{"prompt": "a", "n": 10}, {"n": 0}, {"prompt": "b", "model": "x"}, 5, {"prompt": "c", "model": "x", "n": 2}]
    path.write_text("\n".join(map(json.dumps, rows)))
    report = open_source(path).check(limit=1)
    assert (report.rows, report.bad, report.images) == (5, 2, 13)
    assert [(line, len(found)) for line, found in report.problems] == [(2, 2)]
    assert list(report.notes.values()) == [2]
    assert report.models == {"imagen-3.0-generate-001": 10, "x": 3}
    with pytest.raises(InvalidInputError, match="2 rows are invalid") as caught:
        report.raise_for_bad_rows()
    assert (caught.value.source, caught.value.total) == (str(path), 2)


def test_the_check_of_an_empty_file_finds_nothing(tmp_path: Path) -> None:
    (tmp_path / "p.csv").touch()
    report = open_source(tmp_path / "p.csv").check()
    assert (report.rows, report.bad, report.images, report.problems, report.notes) == (0, 0, 0, (), {})
    report.raise_for_bad_rows()


def test_what_the_check_keeps_does_not_grow_with_the_input(tmp_path: Path) -> None:
    path = tmp_path / "p.jsonl"
    with path.open("w") as file:
        for number in range(3000):
            file.write(json.dumps({"prompt": "a", "model": f"model-{number}"}) + "\n{}\n")
    report = open_source(path).check()
    assert (report.rows, report.bad, report.images) == (6000, 3000, 3000)
    assert (len(report.problems), len(report.notes), len(report.models)) == (20, 100, 100)


def test_the_check_holds_one_row_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    with path.open("w") as file:
        file.writelines(f"{number} {'ab' * 2000}\n" for number in range(500))
    source = open_source(path)
    tracemalloc.start()
    try:
        assert source.check().rows == 500
        assert tracemalloc.get_traced_memory()[1] < 400_000  # the file is 2 MB
    finally:
        tracemalloc.stop()


# --- a file that changes


def test_a_file_that_changed_between_two_passes_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, "p.txt")
    source = open_source(path)
    source.check()
    path.write_text("An owl, longer\n")
    with pytest.raises(ConfigurationError, match="was changed while it was being read"):
        next(source.rows())


def test_a_file_that_was_replaced_by_one_of_the_same_size_and_time_is_noticed(tmp_path: Path) -> None:
    path = written(tmp_path, "p.txt")
    source = open_source(path)
    source.check()
    other = tmp_path / "other.txt"
    other.write_bytes(path.read_bytes()[::-1])
    os.utime(other, ns=(path.stat().st_atime_ns, path.stat().st_mtime_ns))
    other.replace(path)
    with pytest.raises(ConfigurationError, match="was changed"):
        next(source.rows())


@pytest.mark.parametrize("name", ["p.txt", "p.csv.gz", "p.parquet"])
def test_a_file_that_changes_during_a_pass_is_noticed_at_its_end(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name)
    rows = open_source(path).rows()
    next(rows)
    os.utime(path, ns=(1, 1))
    with pytest.raises(ConfigurationError, match="was changed"):
        list(rows)


def test_a_file_that_vanished_after_the_check_is_told(tmp_path: Path) -> None:
    path = written(tmp_path, "p.txt")
    source = open_source(path)
    path.unlink()
    with pytest.raises(ConfigurationError, match="no such file"):
        source.check()


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data[:20] + b"xxxx" + data[24:]])
def test_a_damaged_gzip_file_is_told(tmp_path: Path, spoil: object) -> None:
    assert callable(spoil)
    path = tmp_path / "p.txt.gz"
    path.write_bytes(spoil(gzip.compress(b"A red fox\n" * 100)))
    with pytest.raises(ConfigurationError, match="cannot be read"):
        open_source(path).check()


def test_no_file_stays_open_when_reading_stops_early(tmp_path: Path) -> None:
    rows = open_source(written(tmp_path, "p.csv")).rows()
    next(rows)
    assert hasattr(rows, "close")
    rows.close()  # an unclosed file would warn, and warnings are errors
    assert list(rows) == []


def test_parquet_without_pyarrow_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(written(tmp_path, "p.parquet"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match="parquet"):
        source.check()


# --- pipes


@pytest.mark.parametrize(
    ("data", "format_", "expected"),
    [
        (b"A red fox\nAn owl", None, ["A red fox", "An owl"]),
        (b'\n{"prompt": "A red fox"}\n', None, ["A red fox"]),
        (b"prompt,n\nA red fox,2\n", "csv", ["A red fox"]),
        (b'{"prompt": "A red fox"}\n', "txt", ['{"prompt": "A red fox"}']),
        (b"", None, []),
    ],
)
@pytest.mark.parametrize("path", ["-", "/dev/stdin"])
def test_the_standard_input_is_read_once(
    monkeypatch: pytest.MonkeyPatch, path: str, data: bytes, format_: str | None, expected: list[str]
) -> None:
    stdin(monkeypatch, data)
    source = open_source(path, format=format_)
    assert not source.rewindable
    assert prompts(source) == expected
    with pytest.raises(ConfigurationError, match="the standard input can be read only once"):
        source.rows()


def test_a_check_of_the_standard_input_is_its_only_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin(monkeypatch, b"A red fox\n")
    source = open_source("-")
    assert source.check().rows == 1
    with pytest.raises(ConfigurationError, match="only once"):
        source.rows()
    assert not sys.stdin.closed


def test_a_process_without_a_standard_input_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(ConfigurationError, match="no standard input"):
        open_source("-").check()


def test_parquet_cannot_come_through_a_pipe() -> None:
    with pytest.raises(ConfigurationError, match="save it to a file"):
        open_source("-", format="parquet")


@needs_fifo
@pytest.mark.parametrize(
    ("format_", "start", "more"),
    [
        (None, b"A red fox\n", b"An owl\n"),
        (None, b'{"prompt": "A red fox"}\n', b'"An owl"\n'),
        ("jsonl", b'"A red fox"\n', b'"An owl"\n'),
        ("csv", b"prompt\nA red fox\n", b"An owl\n"),
        ("tsv", b"prompt\tn\nA red fox\t1\n", b"An owl\t1\n"),
        ("tsv", b'"prompt"\nA red fox\n', b"An owl\n"),
    ],
)
def test_a_row_of_a_pipe_comes_as_soon_as_its_line_has(
    pipe: tuple[str, BinaryIO], format_: str | None, start: bytes, more: bytes
) -> None:
    path, end = pipe
    source = open_source(path, format=format_)
    assert not source.rewindable
    end.write(start)
    rows = source.rows()
    first = next(rows)  # would hang if it looked further
    assert isinstance(first, Row)
    end.write(more)
    second = next(rows)
    assert isinstance(second, Row)
    assert (first.request.prompt, second.request.prompt) == ("A red fox", "An owl")
    end.close()
    assert list(rows) == []


@needs_fifo
def test_a_named_pipe_is_read_by_its_ending_and_only_once(tmp_path: Path) -> None:
    path = tmp_path / "prompts.csv"
    os.mkfifo(path)
    keep = os.open(path, os.O_RDWR)  # so that neither end waits for the other
    try:
        source = open_source(path)
        os.write(keep, b"prompt\nA red fox\n")
        first = next(source.rows())
    finally:
        os.close(keep)
    assert isinstance(first, Row)
    assert (first.request.prompt, first.line) == ("A red fox", 2)
    with pytest.raises(ConfigurationError, match="only once"):
        source.rows()


def test_a_source_shows_itself_without_its_defaults() -> None:
    text = repr(open_source("-", defaults={"extra": {"secret": "x"}}))
    assert text == "Source(name='the standard input', format=None, rewindable=False)"


def test_bad_rows_come_in_their_place(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("prompt,n\na,1\nb,x\nc,1\n")
    assert [type(row) for row in open_source(path).rows()] == [Row, BadRow, Row]


def test_a_check_that_is_stopped_reads_no_further(tmp_path: Path) -> None:
    path = tmp_path / "p.txt"
    path.write_text("fox\n" * 1000)
    looks = iter([False] * 3)
    assert open_source(path).check(stopped=lambda: next(looks, True)).rows == 3
