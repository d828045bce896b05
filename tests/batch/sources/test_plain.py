from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given

from imagen_async.batch.sources.plain import NotPlainError, plain
from tests.strategies import plain_json


@given(plain_json())
def test_what_is_json_already_stays_as_it_is(value: Any) -> None:
    assert plain(value) == value
    assert json.loads(json.dumps(plain(value))) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (dt.date(2026, 6, 30), "2026-06-30"),
        (dt.datetime(2026, 6, 30, 12, tzinfo=dt.UTC), "2026-06-30T12:00:00+00:00"),
        (dt.time(12, 30), "12:30:00"),
        (dt.timedelta(hours=1), "1:00:00"),
        (decimal.Decimal("0.040"), "0.040"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_value_with_one_obvious_text_becomes_that_text(value: object, text: str) -> None:
    assert plain([value]) == [text]


def test_read_only_mappings_and_tuples_become_dicts_and_lists() -> None:
    assert json.dumps(plain(MappingProxyType({"a": (1, MappingProxyType({"b": None}))}))) == '{"a": [1, {"b": null}]}'


def _nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [b"bytes", {1: "a"}, {1, 2}, object(), float("nan"), float("-inf"), "\ud800", {"\ud800": 1}, _nested(5000)],
    ids=["bytes", "key", "set", "object", "nan", "inf", "surrogate", "surrogate key", "deep"],
)
def test_what_has_no_json_form_is_refused(value: object) -> None:
    with pytest.raises(NotPlainError):
        plain({"a": [value]})
