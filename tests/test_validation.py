"""A setting that is wrong is refused with its name, its value, and what is allowed."""

from __future__ import annotations

import math
import sys
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async import Caps, ConfigurationError, Model, OverflowPolicy, RetryPolicy, RetryQuota, Timeouts
from imagen_async._validation import Number, nearest, shown

SECONDS = Number(0, beyond=True, optional=True)
COUNT, AMOUNT = Number(1, whole=True), Number(0, whole=True)
NUMBERS: dict[tuple[type, str], Number] = {
    (Timeouts, "connect"): SECONDS,
    (Timeouts, "read"): SECONDS,
    (Timeouts, "total"): SECONDS,
    (Caps, "max_image_bytes"): COUNT,
    (Caps, "max_pixels"): COUNT,
    (RetryPolicy, "top_up"): AMOUNT,
    (RetryPolicy, "max_attempts"): COUNT,
    (RetryPolicy, "max_elapsed"): Number(0),
    (RetryPolicy, "initial"): Number(0),
    (RetryPolicy, "longest"): Number(0),
    (RetryQuota, "capacity"): COUNT,
    (RetryQuota, "retry_cost"): COUNT,
    (RetryQuota, "timeout_cost"): COUNT,
    (RetryQuota, "in_a_row"): COUNT,
    (RetryQuota, "reserve"): AMOUNT,
    (RetryQuota, "cooldown"): Number(0, beyond=True),
    (OverflowPolicy, "max_bytes"): AMOUNT,
    (OverflowPolicy, "patience"): Number(0, endless=True),
    (Model, "prompt_tokens"): Number(1, whole=True, optional=True),
    (Model, "max_n"): COUNT,
    (Model, "price_usd"): Number(0, optional=True),
}
SETTINGS = (Timeouts, Caps, RetryPolicy, RetryQuota, OverflowPolicy)
OTHERS = st.booleans() | st.text(max_size=5) | st.binary(max_size=5) | st.lists(st.integers()) | st.complex_numbers()


def good(number: Number) -> st.SearchStrategy[Any]:
    values: st.SearchStrategy[Any] = st.integers(math.floor(number.least) + number.beyond, 10**12)
    if not number.whole:
        values |= st.floats(number.least, exclude_min=number.beyond, allow_infinity=number.endless)
    return values | st.none() if number.optional else values


def bad(number: Number) -> st.SearchStrategy[Any]:
    values = OTHERS | st.just(math.nan) | st.just(-math.inf) | st.integers(10**400, 10**401)
    values |= st.integers(max_value=math.ceil(number.least) - (not number.beyond))
    values |= st.floats(max_value=number.least, exclude_max=not number.beyond)
    if not number.endless:
        values |= st.just(math.inf)
    if number.whole:
        values |= st.floats()
    return values if number.optional else values | st.none()


def made(kind: type, field: str, value: object) -> Any:
    return kind(**({"id": "m"} if kind is Model else {}), **{field: value})


def test_every_field_of_the_settings_is_checked() -> None:
    fields = {(kind, field.name) for kind in SETTINGS for field in attrs.fields(kind)}
    assert fields - set(NUMBERS) == {(RetryPolicy, "on_ambiguous")}


@pytest.mark.parametrize(("kind", "field"), NUMBERS, ids=lambda part: getattr(part, "__name__", part))
@given(st.data())
def test_a_number_in_range_is_kept_as_it_is(kind: type, field: str, data: st.DataObject) -> None:
    value = data.draw(good(NUMBERS[kind, field]))
    assert getattr(made(kind, field, value), field) is value


@pytest.mark.parametrize(("kind", "field"), NUMBERS, ids=lambda part: getattr(part, "__name__", part))
@given(st.data())
def test_any_other_value_is_refused_with_field_value_and_what_is_allowed(
    kind: type, field: str, data: st.DataObject
) -> None:
    value = data.draw(bad(NUMBERS[kind, field]))
    with pytest.raises(ConfigurationError) as caught:
        made(kind, field, value)
    message = str(caught.value)
    assert message.startswith(f"{kind.__name__}.{field} must be a ")
    assert message.endswith(f", not {shown(value)}")
    assert message.isprintable()


@pytest.mark.parametrize("value", ["never", "", None, True, ["once"], b"once"])
def test_a_policy_for_requests_in_doubt_is_one_of_three(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"RetryPolicy\.on_ambiguous must be once, retry or fail, not "):
        RetryPolicy(on_ambiguous=value)


def test_a_value_too_large_to_show_is_named_by_its_type() -> None:
    assert shown(10**sys.int_info.default_max_str_digits) == "<int too large to show>"
    assert shown("\x1b") == repr("\x1b")


def test_only_a_near_name_is_suggested() -> None:
    assert nearest("aspect_ration", ["aspect_ratio", "n"]) == "; did you mean aspect_ratio?"
    assert nearest("size", ["aspect_ratio", "n"]) == ""
