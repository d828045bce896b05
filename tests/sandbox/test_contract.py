"""The contract's rules, one broken at a time."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.catalog import CATALOG
from imagen_async.sandbox.contract import Order, Refusal, read_order, refuse_content_type, refuse_key

GOOD = {"model": "imagen-3.0-generate-001", "prompt": "A red fox"}


def read(**fields: Any) -> Order | Refusal:
    return read_order(json.dumps({**GOOD, **fields}).encode(), tuple(CATALOG))


def test_the_smallest_request_gets_the_contracts_defaults() -> None:
    assert read() == Order(model="imagen-3.0-generate-001", prompt="A red fox")
    assert read() == Order(
        model="imagen-3.0-generate-001",
        prompt="A red fox",
        n=1,
        aspect_ratio="1:1",
        output_format="png",
        style=None,
    )


def test_a_request_with_everything_is_read() -> None:
    order = read(
        model="imagegeneration@002",
        n=4,
        aspect_ratio="9:16",
        output_format="jpeg",
        style="sketch",
        response_format="b64_json",
    )
    assert order == Order(
        model="imagegeneration@002",
        prompt="A red fox",
        n=4,
        aspect_ratio="9:16",
        output_format="jpeg",
        style="sketch",
    )


def test_unknown_fields_are_ignored_and_null_counts_as_missing() -> None:
    assert read(user="me", seed=7, style=None, n=None) == read()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", None),
        ("prompt", ""),
        ("prompt", " \n"),
        ("prompt", 7),
        ("prompt", ["A red fox"]),
        ("prompt", "\ud800"),
        ("prompt", "fox " * 481),
        ("model", None),
        ("model", ""),
        ("model", 3),
        ("model", {}),
        ("n", 0),
        ("n", 5),
        ("n", -1),
        ("n", 1.0),
        ("n", 1.5),
        ("n", "2"),
        ("n", True),
        ("n", []),
        ("aspect_ratio", "2:1"),
        ("aspect_ratio", 1),
        ("aspect_ratio", {}),
        ("output_format", "webp"),
        ("output_format", "PNG"),
        ("style", "photograph"),
        ("style", "baroque"),
        ("response_format", "url"),
    ],
)
def test_a_broken_rule_is_a_400_that_names_the_field(field: str, value: object) -> None:
    refusal = read(**{field: value})
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.param, refusal.type) == (400, field, "invalid_request_error")
    assert refusal.code is not None
    error = json.loads(refusal.body())["error"]
    assert set(error) == {"message", "type", "param", "code"}


def test_one_model_accepts_style_and_only_known_ones() -> None:
    assert isinstance(read(model="imagegeneration@002", style="pop_art"), Order)
    assert isinstance(read(model="imagegeneration@002", style="baroque"), Refusal)
    assert isinstance(read(model="imagegeneration@006", style="pop_art"), Refusal)


def test_the_older_models_accept_128_tokens() -> None:
    assert isinstance(read(model="imagegeneration@005", prompt="fox " * 128), Order)
    assert isinstance(read(model="imagegeneration@005", prompt="fox " * 129), Refusal)


def test_an_unknown_model_is_a_404_or_a_503() -> None:
    refusal = read(model="imagen-9")
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (404, "model_not_found")
    body = json.dumps({**GOOD, "model": "imagen-9"}).encode()
    refusal = read_order(body, tuple(CATALOG), unknown_model_status=503)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code) == (503, "model_not_found")


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe\xfd", b"[]", b'"x"', b"null", b"[" * 100_000, b"9" * 5000])
def test_a_body_that_is_not_a_json_object_is_a_400(body: bytes) -> None:
    refusal = read_order(body, tuple(CATALOG))
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(["model", "prompt", "n", "style", "aspect_ratio", "x"]), json_values))
def test_any_json_object_gets_an_order_or_a_refusal(fields: dict[str, Any]) -> None:
    result = read_order(json.dumps(fields).encode(), tuple(CATALOG))
    assert isinstance(result, Order | Refusal)


@given(st.binary(max_size=200))
def test_any_bytes_get_an_order_or_a_refusal(body: bytes) -> None:
    assert isinstance(read_order(body, tuple(CATALOG)), Order | Refusal)


@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "sk-right", "Basic sk-right", "Bearer wrong", "Bearer sk-right1", "Bearer é"],
)
def test_any_key_but_the_right_one_is_a_401(header: str | None) -> None:
    refusal = refuse_key(header, "sk-right")
    assert refusal is not None
    assert refusal.status == 401
    assert "wrong" not in refusal.message


@pytest.mark.parametrize("header", ["Bearer sk-right", "bearer sk-right"])
def test_the_right_key_is_accepted(header: str) -> None:
    assert refuse_key(header, "sk-right") is None


def test_only_json_is_read() -> None:
    assert refuse_content_type("application/json") is None
    refusal = refuse_content_type("text/plain")
    assert refusal is not None
    assert refusal.status == 400
