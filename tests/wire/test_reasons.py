from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagen_async.wire.reasons import filter_reasons, support_codes
from tests.strategies import plain_json

GOOGLE_S = (
    "Unable to show generated images. All images were filtered out because they violated Vertex AI's usage guidelines. "
    "You will not be charged for blocked images. Try rephrasing the prompt. If you think this was an error, send "
    "feedback. Support codes: 39322892, 29310472"
)


@pytest.mark.parametrize(
    ("document", "reasons"),
    [
        ({"data": [{"raiFilteredReason": "a"}, None, {}, {"b64_json": "x", "raiFilteredReason": "b"}]}, ("a", "b")),
        ({"data": [{"raiFilteredReason": "a"}, {"raiFilteredReason": " a "}]}, ("a",)),
        ({"data": [], "raiMediaFilteredReasons": ["a", "b", "a"]}, ("a", "b")),
        ({"data": [{"raiMediaFilteredReasons": ["b", "a"]}], "raiMediaFilteredReasons": ["a", "c"]}, ("b", "a", "c")),
        ({"raiMediaFilteredReasons": ["a"]}, ("a",)),
        ({"data": [{"raiFilteredReason": ""}, {"raiFilteredReason": None}, {"raiFilteredReason": 7}, "x"]}, ()),
        ({"data": {}, "raiMediaFilteredReasons": [None, [], {}, " "]}, ()),
        ({"data": []}, ()),
        ({"data": [{"raiFilteredReason": "\x1b[31mred\n"}]}, ("\\x1b[31mred",)),
        ({"data": [{"raiFilteredReason": GOOGLE_S}]}, (GOOGLE_S,)),
    ],
)
def test_each_reason_is_told_once_in_order(document: Any, reasons: tuple[str, ...]) -> None:
    assert filter_reasons(document) == reasons


def test_of_very_many_and_very_long_reasons_some_are_told() -> None:
    reasons = filter_reasons({"data": [{"raiMediaFilteredReasons": [f"{n} " + "x" * 9999 for n in range(9999)]}]})
    assert len(reasons) == 16
    assert [reason[:3] for reason in reasons[:3]] == ["0 x", "1 x", "2 x"]
    assert {len(reason) for reason in reasons} == {300}


@given(st.dictionaries(st.sampled_from(["data", "raiMediaFilteredReasons", "raiFilteredReason"]), plain_json()))
def test_reasons_of_any_document_are_printable_and_differ(document: dict[str, Any]) -> None:
    reasons = filter_reasons(document)
    assert all(reason and reason.isprintable() for reason in reasons)
    assert len(set(reasons)) == len(reasons)


@pytest.mark.parametrize(
    ("text", "codes"),
    [
        (GOOGLE_S, ("39322892", "29310472")),
        ("Support codes: 29310472, 56562880", ("29310472", "56562880")),
        ("support code: 29310472", ("29310472",)),
        ("SUPPORT CODES :\n29310472,56562880;\t1", ("29310472", "56562880", "1")),
        ("Support codes: 1, 2. Support codes: 2, 3", ("1", "2", "3")),
        ("Support codes: 58061214 (request id: 20261020)", ("58061214",)),
        ("Support codes: 58061214\n20 images", ("58061214",)),
        ("Support codes: " + "1" * 21 + ", 2", ("2",)),
        ("Support codes: none", ()),
        ("Support codes: ٣٩٣٢", ()),
        ("29310472", ()),
        ("", ()),
    ],
)
def test_support_codes_are_read_from_a_message(text: str, codes: tuple[str, ...]) -> None:
    assert support_codes(text) == codes


@given(st.text() | st.lists(st.sampled_from(["support codes: ", "Support code:", "12", ",", " ", "x"])).map("".join))
@example("Support codes: " + ", ".join(map(str, range(10_000))))
@example("Support codes: " + "1" * 100_000)
def test_support_codes_of_any_text_are_few_and_digits_only(text: str) -> None:
    codes = support_codes(text)
    assert len(codes) <= 16
    assert all(code.isascii() and code.isdigit() and code in text for code in codes)
