from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.sources.rows import (
    MAX_IMAGES,
    BadRow,
    Row,
    Terms,
    as_row,
    as_rows,
    json_fault,
    json_value,
    row_of_json,
    row_of_text,
)
from imagen_async.catalog import CATALOG, Model
from imagen_async.exceptions import ConfigurationError
from imagen_async.request import FIELDS, ImageRequest
from tests.strategies import plain_json

TERMS = Terms()
prompts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40).filter(str.strip)


def good(row: Row | BadRow) -> Row:
    assert isinstance(row, Row), row
    return row


def problems(row: Row | BadRow) -> str:
    assert isinstance(row, BadRow), row
    return "\n".join(row.problems)


@given(prompts)
def test_a_text_row_is_its_prompt_to_the_letter(prompt: str) -> None:
    assert good(row_of_text(prompt, 7, TERMS)) == Row(ImageRequest(prompt), 7, {}, good(as_row(prompt, 7)).notes)


@given(prompts, st.integers(1, MAX_IMAGES), st.dictionaries(st.text("xyz", min_size=1), plain_json()))
def test_a_json_row_gives_back_what_was_written(prompt: str, n: int, metadata: dict[str, Any]) -> None:
    text = json.dumps({"prompt": prompt, "n": n, **metadata})
    row = good(row_of_json(text, 1, TERMS))
    assert (row.request, dict(row.metadata)) == (ImageRequest(prompt, n=n), metadata)


@given(prompts)
def test_a_json_string_is_a_prompt(prompt: str) -> None:
    assert good(row_of_json(json.dumps(prompt) + "\r\n", 1, TERMS)).request == ImageRequest(prompt)


def test_every_field_is_found_in_any_case_and_the_rest_is_metadata() -> None:
    text = (
        '{" PROMPT ": "A red fox", "Model": "imagegeneration@002", "N": 2, "Aspect_Ratio": "16:9", "style": "sketch",'
        ' "OUTPUT_FORMAT": "jpeg", "Id": 17, "Extra": {"seed": 4}, "Mood": {"calm": true}}'
    )
    row = good(row_of_json(text, 1, TERMS))
    assert row.request == ImageRequest(
        "A red fox",
        model="imagegeneration@002",
        n=2,
        aspect_ratio="16:9",
        output_format="jpeg",
        style="sketch",
        id="17",
        extra={"seed": 4},
    )
    assert row.metadata == {"Mood": {"calm": True}}


def test_defaults_fill_what_the_row_leaves_out_and_only_that() -> None:
    terms = Terms(defaults={"n": 3, "aspect_ratio": "3:4", "style": None})
    row = good(row_of_json('{"prompt": "A red fox", "n": null, "aspect_ratio": "4:3"}', 1, terms))
    assert row.request == ImageRequest("A red fox", n=3, aspect_ratio="4:3")


@pytest.mark.parametrize("name", ["prompt", "id", "size"])
def test_a_default_that_makes_no_sense_is_refused_by_name(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Terms(defaults={name: "x"})


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not JSON"),
        ("A red fox", " at column 1"),
        ("[" * 100_000, "nested too deeply"),
        ('{"prompt": "a", "m": ' + "9" * 5000 + "}", "not JSON"),
        ("[]", "must be a JSON object or a text, not a value of type list"),
        ("12", "not a value of type int"),
        ("{}", "no prompt; its keys are: none"),
        ('{"text": "a"}', "no prompt; its keys are: 'text'"),
        ('{"prompt": null}', "no prompt"),
        ('{"prompt": "  "}', "prompt is empty"),
        ('{"prompt": 5}', "prompt must be text, not int"),
        ('{"prompt": "a", "prompt": "b"}', "repeats keys: 'prompt'"),
        ('{"prompt": "a", "m": {"x": 1, "x": 1}}', "repeats keys: 'x'"),
        ('{"prompt": "a", "Prompt": "b"}', "name the field prompt twice"),
        ('{"prompt": "a", "prompt ": null}', "name the field prompt twice"),
        ('{"prompt": "a", "m": NaN}', "NaN is not a JSON number"),
        ('{"prompt": "a", "m": [1e999]}', "column 'm' cannot be carried along: inf is not a JSON number"),
        ('{"prompt": "a", "m": "\\ud800"}', "lone surrogate"),
        ('{"prompt": "a", "\\ud800": 1}', "lone surrogate"),
        ('{"prompt": "a\\udc00"}', "lone surrogate"),
        ('{"prompt": "a", "n": "3"}', "n must be a whole number, not '3'"),
        ('{"prompt": "a", "n": 3.0}', "n must be a whole number, not 3.0"),
        ('{"prompt": "a", "n": true}', "n must be a whole number, not True"),
        ('{"prompt": "a", "n": 0}', "n must be 1 to 10000, not 0"),
        ('{"prompt": "a", "n": 10001}', "n must be 1 to 10000"),
        ('{"prompt": "a", "id": true}', "id must be text, not bool"),
        ('{"prompt": "a", "id": ""}', "id is empty"),
        ('{"prompt": "a", "model": ["m"]}', "model must be a model id"),
        ('{"prompt": "a", "extra": "{}"}', "extra must be a table"),
        ('{"prompt": "a", "extra": {"n": 2}}', "extra repeats fields"),
    ],
)
def test_a_mistake_in_a_json_row_is_named(text: str, said: str) -> None:
    row = row_of_json(text, 9, TERMS)
    assert said in problems(row)
    assert row.line == 9


def test_every_mistake_of_a_row_is_named_and_not_only_the_first() -> None:
    row = row_of_json('{"n": 0, "n": 0.5, "aspect_ratio": "5:1", "id": [], "style": "sketch", "m": 1e999}', 1, TERMS)
    found = problems(row)
    assert isinstance(row, BadRow)
    assert len(row.problems) == 7
    for word in ("repeats keys: 'n'", "no prompt", "aspect_ratio", "style", "id must", "n must", "'m'"):
        assert word in found


def test_what_a_problem_quotes_cannot_reach_the_terminal() -> None:
    row = row_of_json('{"\\u001b[31mtext": "a", "aspect_ratio": "\\u001b[31m", "m\\u001b": 1e999}', 1, TERMS)
    assert "\x1b" not in problems(row)


@given(st.text(max_size=60) | plain_json().map(json.dumps))
def test_no_text_makes_a_reader_raise(text: str) -> None:
    for row in (row_of_text(text, 1, TERMS), row_of_json(text, 1, TERMS)):
        assert isinstance(row, Row) or row.problems


@given(st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=3), plain_json(), max_size=6))
def test_no_object_makes_a_reader_raise(value: dict[str, Any]) -> None:
    row = row_of_json(json.dumps(value), 1, TERMS)
    assert isinstance(row, Row) or row.problems


@pytest.mark.parametrize("field", FIELDS)
def test_a_line_nested_to_any_depth_is_a_bad_row(field: str) -> None:
    for depth in range(900, 1100):
        text = f'{{"prompt": "A red fox", "{field.upper()}": {"[" * depth}{"]" * depth}}}'
        assert problems(row_of_json(text, 1, TERMS))


def test_notes_come_along_and_the_catalog_decides() -> None:
    text = '{"prompt": "A red fox", "model": "mine"}'
    assert "not in the catalog" in good(row_of_json(text, 1, TERMS)).notes[0]
    assert good(row_of_json(text, 1, Terms(catalog=CATALOG.extended(Model(id="mine"))))).notes == ()


def test_python_items_are_prompts_requests_and_rows() -> None:
    row = Row(ImageRequest("An owl"), 12, {"a": 1})
    terms = Terms(defaults={"n": 2})
    made = list(as_rows(["A red fox", ImageRequest("A fox", n=9), row, ImageRequest("")], terms))
    assert made == [
        Row(ImageRequest("A red fox", n=2), 1),
        Row(ImageRequest("A fox", n=9), 2),
        row,
        BadRow(4, ("prompt is empty",)),
    ]


def test_a_python_item_of_another_type_is_a_bad_row() -> None:
    assert "not bytes" in problems(as_row(b"A red fox", 3))


def test_python_items_are_taken_one_at_a_time() -> None:
    endless = (f"prompt {number}" for number in itertools.count())
    assert good(next(as_rows(endless))).request.prompt == "prompt 0"
    assert next(endless) == "prompt 1"


def test_a_row_cannot_be_changed_by_changing_what_it_was_made_of() -> None:
    metadata = {"a": 1}
    row = Row(ImageRequest("An owl"), 1, metadata)
    metadata["a"] = 2
    assert row.metadata == {"a": 1}
    assert hash(row) == hash(Row(ImageRequest("An owl"), 1))


_JSON_PIECES = st.sampled_from(
    ['{"a": ', "1", '"x"', "}", "[", "]", ", ", '"a": ', "NaN", "\ufeff", "nul", "{}", "[" * 3000]
)


@given(plain_json().map(json.dumps) | st.lists(_JSON_PIECES, max_size=9).map("".join))
def test_the_short_way_to_read_json_comes_to_what_the_long_one_does(text: str) -> None:
    def read() -> tuple[Any, list[str]]:
        faults: list[str] = []
        try:
            return json_value(text, faults), faults
        except (ValueError, RecursionError) as error:
            return json_fault(error), faults

    short = read()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("imagen_async.batch.sources.rows._FAULTLESS.decode", _refuse_all)
        assert read() == short


def _refuse_all(_: Any) -> None:
    raise ValueError
