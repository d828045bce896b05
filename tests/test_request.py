from __future__ import annotations

import json
import pickle
from types import MappingProxyType
from typing import Any, get_args, get_type_hints

import attrs
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagen_async import request
from imagen_async.catalog import ASPECT_RATIOS, CATALOG, OUTPUT_FORMATS, STYLES
from imagen_async.exceptions import ConfigurationError, InvalidRequestError
from imagen_async.request import FIELDS, ImageRequest, RequestFields, check_request, least_tokens, request_of
from imagen_async.wire.families.imagen import encode_request
from tests.profiles import times

MODEL_2 = "imagegeneration@002"

BROKEN: list[tuple[dict[str, Any], str]] = [
    ({"prompt": ""}, "prompt is empty"),
    ({"prompt": " \n\t"}, "prompt is empty"),
    ({"prompt": None}, "prompt must be text, not NoneType"),
    ({"prompt": b"a fox"}, "prompt must be text, not bytes"),
    ({"prompt": "a \ud800 fox"}, "prompt contains a lone surrogate"),
    ({"prompt": "fox " * 481}, "at least 481 tokens, imagen-3.0-generate-001 accepts 480"),
    ({"prompt": "fox " * 129, "model": MODEL_2}, f"at least 129 tokens, {MODEL_2} accepts 128"),
    ({"model": ""}, "model must be a model id"),
    ({"model": None}, "model must be a model id"),
    ({"model": ["imagen"]}, "model must be a model id"),
    ({"model": "\udfff"}, "model contains a lone surrogate"),
    ({"n": 0}, "n must be 1 to 4, not 0"),
    ({"n": 5}, "n must be 1 to 4, not 5"),
    ({"n": -1}, "n must be 1 to 4, not -1"),
    ({"n": 2.0}, "n must be a whole number, not 2.0"),
    ({"n": "2"}, "n must be a whole number, not '2'"),
    ({"n": True}, "n must be a whole number, not True"),
    ({"n": None}, "n must be a whole number, not None"),
    ({"aspect_ratio": "2:1"}, "aspect_ratio '2:1' is not one of 1:1, 9:16, 16:9, 3:4, 4:3"),
    ({"aspect_ratio": None}, "aspect_ratio must be text"),
    ({"aspect_ratio": ["1:1"]}, "aspect_ratio must be text"),
    ({"aspect_ratio": "\ud800"}, "aspect_ratio contains a lone surrogate"),
    ({"output_format": "webp"}, "output_format 'webp' is not one of png, jpeg"),
    ({"output_format": "PNG"}, "output_format 'PNG' is not one of png, jpeg"),
    ({"style": "sketch"}, "style is not supported by imagen-3.0-generate-001"),
    ({"style": "cubist", "model": MODEL_2}, "style 'cubist' is not one of photograph"),
    ({"style": 7, "model": MODEL_2}, "style must be text"),
    ({"id": ""}, "id is empty"),
    ({"id": 7}, "id must be text, not int"),
    ({"extra": "seed=1"}, "extra must be a table"),
    ({"extra": [("seed", 1)]}, "extra must be a table"),
    ({"extra": {1: 2}}, "extra has field names that are not text: 1"),
    ({"extra": {"n": 2}}, "extra repeats fields of the request: n"),
    ({"extra": {"response_format": "url"}}, "extra repeats fields of the request: response_format"),
    ({"extra": {"seed": float("nan")}}, "extra cannot be sent as JSON: nan is not a JSON number"),
    ({"extra": {"seed": {1, 2}}}, "extra cannot be sent as JSON: a set has no JSON form"),
    ({"extra": {"seed": b"1"}}, "extra cannot be sent as JSON: a bytes has no JSON form"),
    ({"extra": {"seed": 10**5000}}, "extra cannot be sent as JSON: it contains a whole number that is too large"),
    ({"extra": {"a": {"b": ["\ud800"]}}}, "extra cannot be sent as JSON: it contains a lone surrogate"),
    ({"extra": {"a": {(1, 2): 3}}}, "extra cannot be sent as JSON: it contains a table with names that are not text"),
]


def problems_of(**fields: Any) -> tuple[str, ...]:
    return check_request(ImageRequest(**{"prompt": "a red fox", **fields})).problems


@pytest.mark.parametrize(("fields", "problem"), BROKEN)
def test_each_rule_of_the_api_is_checked(fields: dict[str, Any], problem: str) -> None:
    (found,) = problems_of(**fields)
    assert problem in found


def test_one_error_names_everything_that_is_wrong() -> None:
    request = ImageRequest("", n=9, aspect_ratio="2:1", output_format="gif", style="sketch", id="", extra={"n": 1})
    with pytest.raises(InvalidRequestError) as caught:
        request.validate()
    words = [problem.split()[0] for problem in caught.value.problems]
    assert sorted(words) == ["aspect_ratio", "extra", "id", "n", "output_format", "prompt", "style"]
    assert all(problem in str(caught.value) for problem in caught.value.problems)


@pytest.mark.parametrize("model", CATALOG)
@pytest.mark.parametrize("ratio", ["1:1", "9:16", "16:9", "3:4", "4:3"])
def test_a_valid_request_passes_without_a_note(model: str, ratio: str) -> None:
    for output_format in ("png", "jpeg"):
        for n in (1, 4):
            request = ImageRequest("a fox", model=model, aspect_ratio=ratio, output_format=output_format, n=n)
            assert request.validate() == ()


@pytest.mark.parametrize("style", STYLES)
def test_the_model_with_styles_accepts_every_style(style: str) -> None:
    assert ImageRequest("a fox", model=MODEL_2, style=style).validate() == ()


def test_an_unknown_model_passes_with_a_note_and_its_limits_unknown() -> None:
    request = ImageRequest("fox " * 5000, model="imagen-9", aspect_ratio="21:9", output_format="avif", style="noir")
    findings = check_request(request)
    assert findings.problems == ()
    assert any("'imagen-9' is not in the catalog" in note for note in findings.notes)
    assert sum("the gateway decides" in note for note in findings.notes) == 4


def test_the_name_of_an_unknown_model_is_escaped() -> None:
    (note,) = ImageRequest("a fox", model="\x1b[31mred\n").validate()
    assert note.isprintable()


def test_a_chinese_prompt_passes_with_a_note() -> None:
    (note,) = ImageRequest("一只可爱的小海獭").validate()
    assert "Chinese" in note
    assert ImageRequest("a sign that says 海獭").validate() == ()
    assert ImageRequest("🦊🦊🦊 123").validate() == ()


@pytest.mark.parametrize("max_n", [1, 8])
def test_a_caller_that_splits_requests_sets_its_own_limit_of_images(max_n: int) -> None:
    assert check_request(ImageRequest("a fox", n=max_n), max_n=max_n).problems == ()
    assert check_request(ImageRequest("a fox", n=max_n + 1), max_n=max_n).problems != ()


def test_a_request_is_a_value() -> None:
    extra = {"seed": 1}
    request = ImageRequest("a fox", extra=extra)
    extra["seed"] = 2
    assert request.extra == {"seed": 1}
    assert request == ImageRequest("a fox", extra={"seed": 1})
    assert len({request, attrs.evolve(request)}) == 1
    assert pickle.loads(pickle.dumps(request)) == request  # noqa: S301 - our own bytes
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        request.n = 2  # type: ignore[misc] # the point of the test
    assert FIELDS[0] == "prompt"


anything: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(2**1100), 2**1100)
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.binary(max_size=3),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(
            st.text(st.characters(), max_size=3) | st.integers() | st.none() | st.tuples(st.integers()),
            inner,
            max_size=3,
        )
        | st.builds(MappingProxyType, st.dictionaries(st.text(max_size=3), inner, max_size=2))
    ),
    max_leaves=6,
)


@given(st.fixed_dictionaries({"prompt": anything}, optional=dict.fromkeys(FIELDS[1:], anything)))
@times(2)
def test_the_check_never_raises_whatever_the_values(fields: dict[str, Any]) -> None:
    findings = check_request(ImageRequest(**fields))
    assert all((*findings.problems, *findings.notes))
    assert "\x1b" not in "".join((*findings.problems, *findings.notes))


@given(st.dictionaries(st.text(st.characters(), max_size=4), anything, max_size=3))
@times(2)
@example({"a": {"b": MappingProxyType({"c": (1,)})}})
@example({"deep": [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]})
def test_a_request_that_passes_the_check_can_be_sent_unchanged(extra: dict[str, Any]) -> None:
    request = ImageRequest("a fox", extra=extra)
    if check_request(request).problems:
        return
    body = json.loads(encode_request(request).decode("utf-8"))
    assert {name: body[name] for name in extra} == as_json(extra)


def as_json(value: Any) -> Any:
    if isinstance(value, dict | MappingProxyType):
        return {name: as_json(part) for name, part in value.items()}
    return [as_json(part) for part in value] if isinstance(value, list | tuple) else value


letters = st.characters(exclude_categories=["Cs", "Cc", "Z"])
tokens = st.text(letters, min_size=1, max_size=48) | st.builds(lambda c, n: c * n, letters, st.integers(1, 300))


@given(st.lists(st.tuples(tokens, st.sampled_from(["", " ", "\n", "\u3000"])), max_size=40))
@times(3)
def test_the_estimate_never_exceeds_the_tokens_of_a_vocabulary(parts: list[tuple[str, str]]) -> None:
    prompt = "".join(token + space for token, space in parts)
    assert least_tokens(prompt) <= len(parts)


def test_a_prompt_at_the_limit_passes_and_one_word_more_does_not() -> None:
    assert problems_of(prompt="fox " * 480) == ()
    assert len(problems_of(prompt="fox " * 481)) == 1


def test_a_word_longer_than_any_token_counts_for_several() -> None:
    word = "".join(chr(0x4E00 + i) for i in range(97))
    assert least_tokens(word) == 3
    assert least_tokens("=" * 1000) == 1


@pytest.mark.parametrize("field", [name for name in FIELDS if name != "prompt"])
@pytest.mark.parametrize("opening", ["[", '{"a":'])
def test_a_value_nested_to_any_depth_is_a_finding(field: str, opening: str) -> None:
    nested: Any = []
    for _ in range(1000):
        nested = [nested] if opening == "[" else {"a": nested}
    assert check_request(ImageRequest(**{"prompt": "A red fox", field: nested})).problems


def test_a_number_of_thousands_of_digits_is_a_finding() -> None:
    assert check_request(ImageRequest("A red fox", n=10**5000)).problems == (
        "n must be 1 to 4, not <int too large to show>",
    )


def test_the_typed_fields_are_those_of_a_request_with_the_same_types() -> None:
    fields = get_type_hints(RequestFields)
    assert tuple(fields) == FIELDS[1:]
    assert {**fields, "prompt": str} == {**get_type_hints(ImageRequest)}


def test_the_values_that_editors_complete_are_those_of_the_catalog() -> None:
    assert get_args(request.AspectRatio) == tuple(ASPECT_RATIOS)
    assert get_args(request.OutputFormat) == OUTPUT_FORMATS
    assert get_args(request.Style) == STYLES


@pytest.mark.parametrize(
    ("prompt", "fields", "problem"),
    [
        ("a fox", {"aspect_ration": "16:9"}, r"no field aspect_ration; did you mean aspect_ratio\?"),
        ("a fox", {"size": "1024"}, "no field size$"),
        ("a fox", {"prompt": "a hen"}, "no field prompt$"),
        (ImageRequest("a fox"), {"n": 2, "id": "fox"}, "set id, n in the ImageRequest"),
        (ImageRequest("a fox"), {"m": 2}, "no field m$"),
    ],
)
def test_a_field_that_cannot_be_set_is_refused_by_name(prompt: Any, fields: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        request_of(prompt, fields)


def test_a_whole_request_is_returned_and_a_text_becomes_a_request() -> None:
    whole = ImageRequest("a fox", n=2)
    assert request_of(whole, {}) is whole
    assert request_of("a fox", {"n": 2}) == whole
