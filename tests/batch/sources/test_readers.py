from __future__ import annotations

import csv
import io
import itertools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.sources.lines import LINE_LIMIT, read_lines
from imagen_async.batch.sources.readers import TEXT_READERS, read_unnamed
from imagen_async.batch.sources.rows import BadRow, Row, Terms
from imagen_async.exceptions import InvalidInputError

ends = st.sampled_from(["\n", "\r\n"])
prompts = st.text(
    st.characters(codec="utf-8", exclude_characters="\0") | st.sampled_from('",\r\n\t '), max_size=25
).filter(str.strip)
one_line = prompts.map(lambda text: " ".join(text.split("\n")).rstrip("\r")).filter(str.strip)
in_a_cell = prompts.map(lambda text: "".join(" " if c in "\t\n\r" else c for c in text)).filter(str.strip)


def read(format_: str, data: str | bytes) -> list[Row | BadRow]:
    raw = data.encode() if isinstance(data, str) else data
    return list(TEXT_READERS[format_](read_lines(io.BytesIO(raw), "t"), Terms(), "t"))


def texts(rows: list[Row | BadRow]) -> list[str]:
    assert not [row for row in rows if isinstance(row, BadRow)], rows
    return [row.request.prompt for row in rows if isinstance(row, Row)]


def lines_of(rows: list[Row | BadRow]) -> list[int]:
    return [row.line for row in rows]


def said(row: Row | BadRow) -> str:
    assert isinstance(row, BadRow), row
    return "\n".join(row.problems)


def unmarked(text: str) -> str:
    # At the very beginning of a file U+FEFF is a byte-order mark, whatever the writer meant.
    return text.lstrip("\ufeff")


# --- txt and jsonl


@given(st.lists(one_line.map(unmarked).filter(str.strip)), ends, st.booleans())
def test_a_text_file_gives_its_prompts_to_the_letter(given: list[str], end: str, closed: bool) -> None:  # noqa: FBT001 - drawn
    data = end.join(given) + (end if closed else "")
    assert texts(read("txt", data)) == given


def test_blank_lines_are_skipped_and_a_hash_is_a_prompt() -> None:
    rows = read("txt", "\n# A red fox\r\n \t\n\r\nAn owl")
    assert texts(rows) == ["# A red fox", "An owl"]
    assert lines_of(rows) == [2, 5]


@given(st.lists(prompts), ends, st.booleans())
def test_json_lines_give_their_prompts_to_the_letter(given: list[str], end: str, ascii_only: bool) -> None:  # noqa: FBT001 - drawn
    data = "".join(json.dumps({"prompt": prompt}, ensure_ascii=ascii_only) + end + end for prompt in given)
    rows = read("jsonl", data)
    assert texts(rows) == given
    assert lines_of(rows) == list(range(1, 2 * len(given), 2))


@pytest.mark.parametrize("format_", ["txt", "jsonl"])
def test_a_broken_line_costs_itself_only(format_: str) -> None:
    rows = read(format_, b'"one"\n"\xff"\n"thr\0ee"\n"four"\n')
    assert [type(row) for row in rows] == [Row, BadRow, BadRow, Row]


# --- csv


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], ...]:
    rows = draw(st.lists(st.tuples(prompts, st.text(st.sampled_from('a",\r\n\t '), max_size=6))))
    return [prompt for prompt, _ in rows], [note for _, note in rows]


@given(tables(), ends, st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]))
def test_what_a_csv_writer_wrote_is_read_back_to_the_letter(
    table: tuple[list[str], ...],
    end: str,
    quoting: int,
) -> None:
    if end == "\n" and quoting == csv.QUOTE_MINIMAL:
        table = tuple([cell.replace("\r", "x") for cell in column] for column in table)  # it forgets to quote these
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator=end, quoting=quoting)  # type: ignore[arg-type]  # drawn from the constants
    writer.writerow(["id", "Prompt", "note"])
    writer.writerows([f"job-{number}", *row] for number, row in enumerate(zip(*table, strict=True)))
    rows = read("csv", out.getvalue())
    assert texts(rows) == table[0]
    assert [row.metadata["note"] for row in rows if isinstance(row, Row)] == table[1]


def test_the_line_of_a_csv_row_is_where_it_starts() -> None:
    rows = read("csv", 'prompt,n\n\n"one\n\ntwo",2\nthree,3\n,2\n , \nfour,x\n')
    assert [(type(row), row.line) for row in rows] == [(Row, 3), (Row, 6), (BadRow, 7), (BadRow, 9)]


def test_rows_of_separators_alone_are_blank() -> None:
    assert texts(read("csv", "\n,\nprompt,n\n,\nA red fox,\n ,\t\n")) == ["A red fox"]


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("A fox, red, calm", "3 cells, the header 2"),
        ('A, "b, c"', "3 cells, the header 2"),
        ('"A" fox,1', "the row is not CSV"),
        ('"A \\"red\\" fox",1', "the row is not CSV"),
        ("A\rfox,1", "the row is not CSV"),
        ('"A\0fox",1', "NUL"),
    ],
)
def test_a_broken_csv_row_is_named_and_costs_itself_only(row: str, problem: str) -> None:
    before, bad, after = read("csv", f"prompt,n\none,1\n{row}\ntwo,2\n")
    assert problem in said(bad)
    assert texts([before, after]) == ["one", "two"]


def test_a_bad_byte_inside_a_row_of_many_lines_spoils_that_row_only() -> None:
    bad, after = read("csv", b'prompt\n"one\n\xff\nthree"\ntwo\n')
    assert (bad.line, "byte 0xff at position 1" in said(bad)) == (2, True)
    assert (texts([after]), after.line) == (["two"], 5)


def test_a_quotation_mark_that_is_never_closed_is_an_error_at_its_row() -> None:
    before, bad = read("csv", 'prompt\none\n"two\nthree\n')
    assert (texts([before]), bad.line) == (["one"], 3)
    assert "the row is not CSV" in said(bad)


def test_a_quotation_mark_that_is_never_closed_does_not_fill_the_memory() -> None:
    held = itertools.count()
    field_size = csv.field_size_limit(1 << 40)  # as other libraries do, for the whole process
    try:
        data = io.BytesIO(b'prompt\n"one\n' + b"x\n" * (2 * LINE_LIMIT))
        rows = TEXT_READERS["csv"](((next(held), line)[1] for line in read_lines(data, "t")), Terms(), "t")
        assert "is a closing quotation mark missing" in said(next(rows))
        assert next(held) < LINE_LIMIT
    finally:
        csv.field_size_limit(field_size)


def test_a_cell_beyond_the_csv_module_s_limit_is_a_bad_row() -> None:
    bad, after = read("csv", f"prompt\n{'x' * 200_000}\ntwo\n")
    assert "field larger than field limit" in said(bad)
    assert texts([after]) == ["two"]


def test_a_csv_line_that_is_too_long_does_not_swallow_what_follows() -> None:
    bad, after = read("csv", f'prompt\n"{"x" * LINE_LIMIT}"\ntwo\n')
    assert said(bad) == "the line is longer than 1,048,576 bytes"
    assert texts([after]) == ["two"]


def test_what_the_csv_module_says_of_a_tab_is_shown_harmlessly() -> None:
    (bad,) = read("tsv", '"prompt"\t"n"\n"a"x\t2\n')
    assert r"'\t' expected" in said(bad)
    assert said(bad).isprintable()


@pytest.mark.parametrize("format_", ["csv", "tsv"])
@pytest.mark.parametrize("data", [b"A red fox\nAn owl\n", b"pr\xffompt\nA red fox\n"])
def test_a_table_whose_header_cannot_be_used_is_an_error_for_the_file(format_: str, data: bytes) -> None:
    with pytest.raises(InvalidInputError) as caught:
        read(format_, data)
    assert [line for line, _ in caught.value.problems] == [1]


@pytest.mark.parametrize("format_", ["txt", "jsonl", "csv", "tsv"])
@pytest.mark.parametrize("data", ["", "\n \r\n", "\ufeff"])
def test_an_empty_file_has_no_rows(format_: str, data: str) -> None:
    assert read(format_, data) == []


@pytest.mark.parametrize("format_", ["csv", "tsv"])
def test_a_header_alone_has_no_rows(format_: str) -> None:
    assert read(format_, "\ufeffPrompt\n") == []


# --- tsv


def _ambiguous(cell: str) -> bool:
    return cell[:1] == cell[-1:] == '"' and (len(cell) == 2 or '""' in cell[1:-1])


@given(st.lists(st.tuples(in_a_cell, in_a_cell)), ends)
def test_a_tsv_without_quoting_is_read_to_the_letter(table: list[tuple[str, str]], end: str) -> None:
    table = [row for row in table if not any(map(_ambiguous, row))]
    rows = read("tsv", "".join(f"{prompt}\t{note}{end}" for prompt, note in [("Prompt", "Note"), *table]))
    assert [(row.request.prompt, row.metadata["Note"]) for row in rows if isinstance(row, Row)] == table


@given(st.lists(st.tuples(in_a_cell, in_a_cell)), ends)
def test_a_tsv_quoted_where_needed_is_read_to_the_letter(table: list[tuple[str, str]], end: str) -> None:
    out = io.StringIO(newline="")
    csv.writer(out, dialect="excel-tab", lineterminator=end).writerows([("Prompt", "Note"), *table])
    rows = read("tsv", out.getvalue())
    assert [(row.request.prompt, row.metadata["Note"]) for row in rows if isinstance(row, Row)] == table


@given(tables(), ends)
def test_a_tsv_quoted_throughout_is_read_to_the_letter(table: tuple[list[str], ...], end: str) -> None:
    out = io.StringIO(newline="")
    writer = csv.writer(out, dialect="excel-tab", quoting=csv.QUOTE_ALL, lineterminator=end)
    writer.writerows([("Prompt", "Note"), *zip(*table, strict=True)])
    rows = read("tsv", out.getvalue())
    assert texts(rows) == table[0]


@pytest.mark.parametrize(
    ("cell", "prompt"),
    [
        ('"G I G G L E" painted as graffiti', '"G I G G L E" painted as graffiti'),
        ('a sign that says "STOP"', 'a sign that says "STOP"'),
        ('"a fox"', '"a fox"'),
        ('"a ""red"" fox"', 'a "red" fox'),
        ('"""STOP"""', '"STOP"'),
        ('"""', '"""'),
        ("a fox, red", "a fox, red"),
        ("it’s 5\" 'tall'", "it’s 5\" 'tall'"),
    ],
)
def test_a_quotation_mark_in_a_tsv_is_a_character_unless_the_cell_is_quoted(cell: str, prompt: str) -> None:
    assert texts(read("tsv", f"Prompt\tn\n{cell}\t2\n")) == [prompt]


def test_a_tab_or_newline_inside_quotes_is_a_bad_row_and_never_a_wrong_prompt() -> None:
    tab, newline = read("tsv", 'Prompt\tn\n"a\tfox"\t2\n"a\n')
    assert "needs a format that quotes" in said(tab)
    assert "needs a format that quotes" in said(newline)


def test_a_lone_opening_mark_in_a_tsv_is_noted() -> None:
    (row,) = read("tsv", 'Prompt\n"a fox\n')
    assert isinstance(row, Row)
    assert row.request.prompt == '"a fox'
    assert "does not close it" in row.notes[0]


# --- a stream without a name


@pytest.mark.parametrize(
    ("data", "prompt"),
    [
        ('\n  \n {"prompt": "A red fox"}\n', "A red fox"),
        ("\n\nA red fox\n", "A red fox"),
        ('"A red fox"', '"A red fox"'),
    ],
)
def test_a_stream_without_a_name_tells_its_format_by_its_first_row(data: str, prompt: str) -> None:
    (row,) = read_unnamed(read_lines(io.BytesIO(data.encode()), "t"), Terms(), "t")
    assert texts([row]) == [prompt]
    assert row.line == data[: data.index("A")].count("\n") + 1


def test_a_first_row_that_is_too_long_still_tells_its_format() -> None:
    data = b'{"prompt": "' + b"x" * LINE_LIMIT + b'"}\n{"prompt": "two"}\n'
    bad, after = read_unnamed(read_lines(io.BytesIO(data), "t"), Terms(), "t")
    assert said(bad)
    assert texts([after]) == ["two"]


def test_an_empty_stream_without_a_name_has_no_rows() -> None:
    assert list(read_unnamed(read_lines(io.BytesIO(b"\n\n"), "t"), Terms(), "t")) == []


# --- any bytes at all


@given(
    st.sampled_from(list(TEXT_READERS)),
    st.binary(max_size=60) | st.text(st.sampled_from('"a,\t\r\n{}[]:')).map(str.encode),
)
def test_no_bytes_make_a_reader_raise_anything_but_the_one_error(format_: str, data: bytes) -> None:
    for start in (b"", b"prompt,n\n", b"prompt\tn\n"):
        try:
            rows = read(format_, start + data)
        except InvalidInputError:
            continue
        assert lines_of(rows) == sorted({row.line for row in rows})
