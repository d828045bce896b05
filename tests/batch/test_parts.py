from __future__ import annotations

import json
import subprocess
import sys
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.parts import digest, split
from imagen_async.batch.sources.rows import Row
from imagen_async.catalog import CATALOG, Model
from imagen_async.request import FIELDS, ImageRequest
from tests.strategies import plain_json

if TYPE_CHECKING:
    import random

requests = st.builds(
    ImageRequest,
    st.sampled_from(["a", "b", '"', "ü", "\\"]),
    model=st.sampled_from(["m", "M"]),
    n=st.integers(1, 3),
    style=st.none() | st.just("sketch"),
    id=st.none() | st.sampled_from(["1", "2"]),
    extra=st.dictionaries(st.sampled_from("ab"), plain_json(3), max_size=2),
)


def canonical(request: ImageRequest) -> str:
    fields = {name: getattr(request, name) for name in FIELDS}
    return json.dumps({**fields, "extra": dict(request.extra)}, sort_keys=True)


@given(st.integers(1, 300), st.integers(1, 9))
def test_the_parts_of_a_row_make_up_the_row(n: int, limit: int) -> None:
    row = Row(ImageRequest("A red fox", model="mine", n=n, id="x"), 3, {"a": 1})
    parts = list(split(row, CATALOG.extended(Model(id="mine", max_n=limit))))
    places = [part.first_index + at for part in parts for at in range(part.request.n)]
    assert places == list(range(n))
    assert all(1 <= part.request.n <= limit for part in parts)
    assert [part.part for part in parts] == list(range(-(-n // limit)))
    assert {attrs.evolve(part.request, n=n) for part in parts} == {row.request}
    assert all(part.row is row for part in parts)


@pytest.mark.parametrize("model", ["imagen-3.0-generate-001", "an-unknown-model"])
def test_ten_images_are_three_requests(model: str) -> None:
    parts = list(split(Row(ImageRequest("A red fox", n=10, model=model), 1)))
    assert [(part.request.n, part.first_index) for part in parts] == [(4, 0), (4, 4), (2, 8)]


def test_a_row_within_the_limit_is_one_part_with_its_own_request() -> None:
    row = Row(ImageRequest("A red fox", n=4), 1)
    (part,) = split(row)
    assert part.request is row.request


@given(requests, requests)
def test_digests_are_equal_exactly_when_the_requests_are_equal_as_json(one: ImageRequest, two: ImageRequest) -> None:
    assert (digest(one) == digest(two)) == (canonical(one) == canonical(two))
    assert len(digest(one)) == 16


def _shuffled(value: Any, order: random.Random) -> Any:
    if isinstance(value, dict):
        items = [(key, _shuffled(item, order)) for key, item in value.items()]
        order.shuffle(items)
        return MappingProxyType(dict(items))
    return tuple(_shuffled(item, order) for item in value) if isinstance(value, list) else value


@given(st.dictionaries(st.text(max_size=3), plain_json()), st.randoms(use_true_random=False))
def test_the_order_of_keys_and_the_kind_of_containers_do_not_matter(
    extra: dict[str, Any], order: random.Random
) -> None:
    assert digest(ImageRequest("a", extra=extra)) == digest(ImageRequest("a", extra=_shuffled(extra, order)))


@pytest.mark.parametrize("change", [{name: "other"} for name in FIELDS if name not in {"n", "extra"}])
def test_every_field_counts(change: dict[str, Any]) -> None:
    request = ImageRequest("A red fox", style="sketch", id="x")
    assert digest(attrs.evolve(request, **change)) != digest(request)
    assert digest(attrs.evolve(request, n=2)) != digest(request)
    assert digest(attrs.evolve(request, extra={"seed": 1})) != digest(request)


def test_the_digest_is_a_contract_with_the_journals_of_earlier_releases() -> None:
    request = ImageRequest(
        'Grün "5" 👍',
        model="imagegeneration@002",
        n=4,
        aspect_ratio="16:9",
        output_format="jpeg",
        style="sketch",
        id="x",
        extra={"b": [1, 1.5, None, True], "a": {"é": 1e300}},
    )
    assert digest(request).hex() == "321029fa05a9f4c63f54067e29eb77ad"
    assert {field.name for field in attrs.fields(ImageRequest)} == {
        *("prompt", "model", "n", "aspect_ratio", "output_format", "style", "id", "extra")
    }, "a new field must be left out of the digest while it has its default"


def test_the_digest_is_the_same_in_another_process() -> None:
    code = (
        "from imagen_async.batch.parts import digest; from imagen_async.request import ImageRequest;"
        "print(digest(ImageRequest('a', extra={'x': {'b': 1, 'a': 2}, 'c': 3})).hex())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()  # noqa: S603 - our own interpreter and code
    assert told == digest(ImageRequest("a", extra={"c": 3, "x": {"a": 2, "b": 1}})).hex()


def test_a_request_without_a_json_form_is_refused() -> None:
    with pytest.raises(TypeError, match="a set has no JSON form"):
        digest(ImageRequest("a", extra={"x": {1}}))
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest(ImageRequest("a", extra={"x": float("nan")}))
