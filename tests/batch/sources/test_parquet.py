from __future__ import annotations

import datetime as dt
import decimal
import io
import sys
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.sources.parquet import read_parquet
from imagen_async.batch.sources.rows import BadRow, Row, Terms
from imagen_async.exceptions import ConfigurationError, InvalidInputError, MissingExtraError

prompts = st.text(st.characters(codec="utf-8"), max_size=20).filter(str.strip)


def parquet(columns: Any, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    pq.write_table(columns if isinstance(columns, pa.Table) else pa.table(columns), file, **options)
    return file


def read(columns: Any, **options: Any) -> list[Row | BadRow]:
    return list(read_parquet(parquet(columns, **options), Terms(), "t.parquet"))


def good(rows: list[Row | BadRow]) -> list[Row]:
    assert not [row for row in rows if isinstance(row, BadRow)], rows
    return [row for row in rows if isinstance(row, Row)]


@given(st.lists(st.tuples(prompts, st.none() | st.integers(1, 9)), max_size=12), st.integers(1, 5))
def test_what_was_written_is_read_back_to_the_letter(table: list[tuple[str, int | None]], group: int) -> None:
    texts, numbers = [row[0] for row in table], [row[1] for row in table]
    columns = {"Prompt": pa.array(texts, pa.string()), "n": pa.array(numbers, pa.int64())}
    rows = good(read(columns, row_group_size=group))
    assert [(row.request.prompt, row.request.n) for row in rows] == [(text, n or 1) for text, n in table]
    assert [row.line for row in rows] == list(range(1, len(table) + 1))


def test_rows_are_numbered_through_all_batches() -> None:
    rows = good(read({"prompt": [f"prompt {number}" for number in range(1, 1001)]}, row_group_size=300))
    assert [row.request.prompt for row in rows] == [f"prompt {row.line}" for row in rows]
    assert len(rows) == 1000


def test_every_type_with_an_obvious_text_is_carried() -> None:
    zone = dt.UTC
    columns = {
        "prompt": pa.array(["A red fox"], pa.large_string()),
        "day": [dt.date(2026, 6, 30)],
        "at": pa.array([1_500_000_001], pa.timestamp("ns", tz="UTC")),
        "took": pa.array([1_500_000_001], pa.duration("ns")),
        "hour": pa.array([3_600_000_000_001], pa.time64("ns")),
        "price": [decimal.Decimal("0.04")],
        "tags": [["a", None]],
        "place": [{"x": 1, "when": dt.datetime(2026, 1, 1, tzinfo=zone)}],
        "kind": pa.array(["photo"]).dictionary_encode(),
        "none": pa.nulls(1),
        "score": [float("nan")],
        "a.b": [True],
    }
    (row,) = good(read(columns))
    assert row.metadata == {
        "day": "2026-06-30",
        "at": "1970-01-01T00:00:01.500000+00:00",
        "took": "0:00:01.500000",
        "hour": "01:00:00",
        "price": "0.04",
        "tags": ["a", None],
        "place": {"x": 1, "when": "2026-01-01T00:00:00+00:00"},
        "kind": "photo",
        "none": None,
        "score": None,
        "a.b": True,
    }


def test_fields_come_with_the_types_that_tables_give_them() -> None:
    columns = {
        "prompt": ["A red fox", "An owl"],
        "n": pa.array([3.0, None], pa.float64()),
        "ID": pa.array([17, 18], pa.int32()),
        "extra": pa.array([{"seed": 4, "x": None}, {"seed": None, "x": "y"}]),
    }
    first, second = (row.request for row in good(read(columns)))
    assert (first.n, first.id, first.extra) == (3, "17", {"seed": 4})
    assert (second.n, second.id, second.extra) == (1, "18", {"x": "y"})


def test_columns_of_bytes_are_left_out_with_a_note() -> None:
    columns = {
        "prompt": ["A red fox"],
        "image": [{"bytes": b"\x89PNG", "path": "a.png"}],
        "raw": [b"\x00"],
        "list": [[b"\x00"]],
        "map": pa.array([[("a", b"\x00")]], pa.map_(pa.string(), pa.binary())),
        "mood": ["calm"],
    }
    (row,) = good(read(columns))
    assert row.metadata == {"mood": "calm"}
    assert [note.split("'")[1] for note in row.notes] == ["image", "raw", "list", "map"]


def test_a_date_that_python_cannot_hold_costs_its_column_only() -> None:
    columns = {"prompt": ["A red fox"], "day": pa.array([2**60], pa.timestamp("ms"))}
    (row,) = good(read(columns))
    assert row.metadata == {"day": None}
    assert "column 'day'" in row.notes[0]


def test_a_bad_row_costs_itself_only() -> None:
    rows = read({"prompt": ["A red fox", None, "An owl"]})
    assert [type(row) for row in rows] == [Row, BadRow, Row]
    assert rows[1].line == 2


@pytest.mark.parametrize("names", [["text"], ["prompt", "Prompt"], ["prompt", "n", "N"], ["prompt", "a", "a"]])
def test_columns_that_cannot_be_used_are_one_error(names: list[str]) -> None:
    with pytest.raises(InvalidInputError):
        read(pa.table([pa.array(["x"]) for _ in names], names=names))


def test_a_prompt_of_bytes_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigurationError, match="cast it to string"):
        read({"prompt": [b"A red fox"]})


def test_a_table_without_rows_has_none() -> None:
    assert read({"prompt": pa.array([], pa.string())}) == []


@pytest.mark.parametrize("data", [b"", b"PAR1", b"prompt\nA red fox\n" * 9, b"PAR1" + b"x" * 99 + b"PAR1"])
def test_a_file_that_is_not_parquet_is_a_clear_error(data: bytes) -> None:
    with pytest.raises(ConfigurationError, match=r"t\.parquet cannot be read as Parquet"):
        list(read_parquet(io.BytesIO(data), Terms(), "t.parquet"))


def test_damage_anywhere_is_a_clear_error_or_rows() -> None:
    whole = parquet({"prompt": ["A red fox", "An owl"], "mood": ["calm", None]}, store_schema=False).getvalue()
    for place in range(0, len(whole), 3):
        damaged = whole[:place] + bytes([whole[place] ^ 0x85]) + whole[place + 1 :]
        try:
            list(read_parquet(io.BytesIO(damaged), Terms(), "t.parquet"))
        except (ConfigurationError, InvalidInputError) as error:
            assert "t.parquet" in str(error)


def test_a_column_s_name_that_is_not_text_is_a_clear_error() -> None:
    file = parquet({"prompt": ["A red fox"], "moodmood": ["calm"]}, store_schema=False)
    with pytest.raises(ConfigurationError, match=r"t\.parquet cannot be read as Parquet"):
        list(read_parquet(io.BytesIO(file.getvalue().replace(b"moodmood", b"\xffoodmood")), Terms(), "t.parquet"))


def test_reading_goes_batch_by_batch() -> None:
    class Counted(io.BytesIO):
        taken = 0

        def read(self, size: int | None = -1, /) -> bytes:
            data = super().read(size)
            self.taken += len(data)
            return data

    texts = [f"{number:04}" * 2000 for number in range(4000)]
    file = Counted(parquet({"prompt": texts}, use_dictionary=False, compression="none", row_group_size=4000).getvalue())
    rows = read_parquet(file, Terms(), "t.parquet")
    next(rows)
    assert file.taken < len(file.getvalue()) / 3


def test_a_missing_extra_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'imagen-async\[parquet\]'"):
        list(read_parquet(io.BytesIO(), Terms(), "t.parquet"))
