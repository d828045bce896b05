from __future__ import annotations

import decimal
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.sources.columns import Columns, row_of_cells, row_of_values
from imagen_async.batch.sources.rows import BadRow, Row, Terms
from imagen_async.exceptions import InvalidInputError
from imagen_async.request import FIELDS, ImageRequest
from tests.strategies import plain_json

TERMS = Terms()
EVERY = Columns.of([*FIELDS, "Mood"], source="t.csv")


def good(row: Row | BadRow) -> Row:
    assert isinstance(row, Row), row
    return row


def problems(row: Row | BadRow) -> str:
    assert isinstance(row, BadRow), row
    return "\n".join(row.problems)


def cells(**given: str) -> Row | BadRow:
    return row_of_cells([given.get(name, "") for name in (*FIELDS, "Mood")], EVERY, 2, TERMS)


def values(**given: Any) -> Row | BadRow:
    return row_of_values([given.get(name) for name in (*FIELDS, "Mood")], EVERY, 2, TERMS)


def test_a_column_s_name_is_recognized_in_any_case_and_without_the_space_around_it() -> None:
    columns = Columns.of([" Prompt ", "Category", "ASPECT_RATIO", " My Note "], source="t.csv")
    assert columns.fields == {"prompt": 0, "aspect_ratio": 2}
    assert columns.carried == {1: "Category", 3: "My Note"}


@pytest.mark.parametrize(
    ("header", "said"),
    [
        (["Prompt", "prompt"], "columns 'Prompt', 'prompt' are both the field prompt"),
        (["prompt", "n", "N "], "columns 'n', 'N' are both the field n"),
        (["prompt", "note", "note"], "two columns are called 'note'"),
        (["text", "\x1b[31m"], "no column is called 'prompt'; the columns are: 'text', '\\x1b[31m'"),
        ([f"c{number}" for number in range(500)], "'c11', and 488 more"),
    ],
)
def test_a_header_that_cannot_be_used_is_one_error_for_the_file(header: list[str], said: str) -> None:
    with pytest.raises(InvalidInputError) as caught:
        Columns.of(header, source="t.csv", line=3)
    assert said in str(caught.value)
    assert (caught.value.source, caught.value.total, caught.value.problems[0][0]) == ("t.csv", 1, 3)


def test_every_mistake_of_a_header_is_named() -> None:
    with pytest.raises(InvalidInputError) as caught:
        Columns.of(["n", "N", "a", "a"], source="t.csv")
    assert len(caught.value.problems[0][1]) == 3


def test_columns_that_differ_in_case_only_are_two_unless_they_are_fields() -> None:
    columns = Columns.of(["prompt", "note", "Note"], source="t.csv")
    assert good(row_of_cells(["A", "1", "2"], columns, 2, TERMS)).metadata == {"note": "1", "Note": "2"}


def test_a_column_without_a_name_is_carried_by_its_number_when_it_holds_something() -> None:
    columns = Columns.of(["", "prompt", ""], source="t.csv")
    assert good(row_of_cells(["0", "A red fox", ""], columns, 2, TERMS)).metadata == {"column 1": "0"}


def test_cells_set_the_fields_and_are_carried_as_text() -> None:
    row = cells(
        prompt=" A red fox",
        model=" imagegeneration@002 ",
        n=" 12 ",
        aspect_ratio="16:9",
        style="sketch",
        id="017",
        extra='{"seed": 4}',
        Mood=" 7 ",
    )
    assert good(row).request == ImageRequest(
        " A red fox",
        model="imagegeneration@002",
        n=12,
        aspect_ratio="16:9",
        style="sketch",
        id="017",
        extra={"seed": 4},
    )
    assert good(row).metadata == {"Mood": " 7 "}


def test_an_empty_cell_is_not_given() -> None:
    terms = Terms(defaults={"n": 3, "model": "imagen-3.0-generate-002"})
    row = row_of_cells(["A red fox", " ", *[""] * 7], EVERY, 2, terms)
    assert good(row) == Row(ImageRequest("A red fox", n=3, model="imagen-3.0-generate-002"), 2, {"Mood": ""})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"n": "3.0"}, "n must be a whole number, not '3.0'"),
        ({"n": "three"}, "n must be a whole number, not 'three'"),
        ({"n": "٣"}, "n must be a whole number"),
        ({"n": "9" * 5000}, "n must be a whole number"),
        ({"n": "-1"}, "n must be 1 to 10000, not -1"),
        ({"prompt": " "}, "prompt is empty"),
        ({"extra": "seed=4"}, "extra is not a JSON object: "),
        ({"extra": "[1]"}, "extra must be a table of body fields, not list"),
        ({"extra": '{"a": 1, "a": 2}'}, "repeats keys: 'a'"),
        ({"extra": '{"a": NaN}'}, "NaN is not a JSON number"),
    ],
)
def test_a_mistake_in_a_cell_is_named(given: dict[str, str], said: str) -> None:
    assert said in problems(cells(**{"prompt": "A red fox", **given}))


def test_every_mistake_of_the_cells_is_named() -> None:
    row = cells(n="many", aspect_ratio="5:1", extra="{")
    assert isinstance(row, BadRow)
    assert len(row.problems) == 4


def test_too_many_cells_are_a_mistake_and_too_few_a_note() -> None:
    columns = Columns.of(["prompt", "n", "mood"], source="t.csv")
    assert "4 cells, the header 3" in problems(row_of_cells(["A", " a fox", "3", "calm"], columns, 5, TERMS))
    short = good(row_of_cells(["A red fox", "2"], columns, 5, TERMS, notes=["first"]))
    assert short.request.n == 2
    assert short.metadata == {"mood": ""}
    assert short.notes == ("first", "the row has 2 cells, the header 3: the missing ones count as empty")


def test_typed_values_set_the_fields() -> None:
    row = good(values(prompt="A", n=3.0, id=17, extra={"seed": 4, "x": None}, Mood=decimal.Decimal("0.5")))
    assert row.request == ImageRequest("A", n=3, id="17", extra={"seed": 4})
    assert row.metadata == {"Mood": "0.5"}
    assert good(values(prompt="A", extra='{"seed": 4}')).request.extra == {"seed": 4}


def test_null_and_nan_are_not_given() -> None:
    row = good(values(prompt="A", n=float("nan"), id=float("nan"), Mood=float("nan")))
    assert row == Row(ImageRequest("A"), 2, {"Mood": None})


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"prompt": 5}, "prompt must be text, not int"),
        ({"n": 2.5}, "n must be a whole number, not 2.5"),
        ({"n": float("inf")}, "n must be a whole number, not inf"),
        ({"n": "3"}, "n must be a whole number, not '3'"),
        ({"id": 1.0}, "id must be text, not float"),
        ({"id": True}, "id must be text, not bool"),
        ({"extra": "{"}, "extra is not a JSON object"),
        ({"Mood": b"bytes"}, "column 'Mood' cannot be carried along"),
        ({"Mood": float("inf")}, "inf is not a JSON number"),
    ],
)
def test_a_mistake_in_a_typed_value_is_named(given: dict[str, Any], said: str) -> None:
    assert said in problems(values(**{"prompt": "A red fox", **given}))


@given(st.lists(st.text(max_size=8) | plain_json().map(json.dumps), max_size=12))
def test_no_cells_make_a_reader_raise(row: list[str]) -> None:
    made = row_of_cells(row, EVERY, 1, TERMS)
    assert isinstance(made, Row) or made.problems


@given(st.lists(plain_json() | st.floats() | st.binary(max_size=3), min_size=9, max_size=9))
def test_no_values_make_a_reader_raise(row: list[Any]) -> None:
    made = row_of_values(row, EVERY, 1, TERMS)
    if isinstance(made, Row):
        json.dumps(dict(made.metadata), allow_nan=False)
    else:
        assert made.problems
