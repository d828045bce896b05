"""What a record becomes as a line."""

from __future__ import annotations

import datetime as dt
import json
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.journal.json_lines import json_line
from imagen_async.exceptions import JournalError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), values, max_size=4))
def test_any_record_is_read_back_from_one_printable_utf8_line(record: dict[str, Any]) -> None:
    line = json_line(record)
    assert json.loads(line.encode()) == record
    assert line.splitlines() in ([line], [])
    assert not any(c < " " or "\x7f" <= c <= "\x9f" for c in line)


def test_text_stays_readable_and_keys_keep_their_order() -> None:
    assert json_line({"prompt": "狐狸 🦊", "id": "ä"}) == '{"prompt": "狐狸 🦊", "id": "ä"}'


def test_an_override_that_would_reorder_a_terminals_text_is_escaped() -> None:
    assert json_line({"id": "a\u202eb"}) == '{"id": "a\\u202eb"}'


def test_a_delete_character_in_ascii_text_is_escaped() -> None:
    assert json_line({"id": "a\x7fb"}) == '{"id": "a\\u007fb"}'


def test_numbers_without_a_json_form_become_null() -> None:
    record = {"a": [float("nan"), 1.5], "b": {"c": float("inf")}, "d": (float("-inf"),)}
    assert json.loads(json_line(record)) == {"a": [None, 1.5], "b": {"c": None}, "d": [None]}


def test_lone_surrogates_become_replacement_characters() -> None:
    assert json.loads(json_line({"id": "a\udc80"})) == {"id": "a\ufffd"}


def test_foreign_types_become_text_and_mappings_objects() -> None:
    record = {"day": dt.date(2026, 7, 1), "row": MappingProxyType({"a": 1})}
    assert json.loads(json_line(record)) == {"day": "2026-07-01", "row": {"a": 1}}


def test_a_record_without_a_json_form_is_a_typed_error() -> None:
    endless: list[Any] = [float("nan")]
    endless.append(endless)
    with pytest.raises(JournalError):
        json_line({"a": endless})
    keys: dict[Any, int] = {(1, 2): 3}
    with pytest.raises(JournalError):
        json_line(keys)
