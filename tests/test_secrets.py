from __future__ import annotations

import base64
import copy
import pickle
import pprint
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from imagen_async._secrets import Mask, Secret
from tests.strategies import plain_json

KEY = "sk-" + "q7" * 24


@pytest.mark.parametrize(
    "shown",
    [
        repr(Secret(KEY)),
        f"{Secret(KEY)!r}",
        "%r" % Secret(KEY),  # noqa: UP031 - the old way shows values as well
        repr({"Authorization": Secret("Bearer " + KEY)}),
        repr([(Secret(KEY),)]),
        pprint.pformat({"headers": {"Authorization": Secret(KEY)}}),
        ascii(Secret(KEY)),
    ],
)
def test_a_secret_is_masked_wherever_values_are_shown(shown: str) -> None:
    assert KEY not in shown
    assert "***" in shown


def test_a_traceback_with_locals_does_not_show_it() -> None:
    key = Secret(KEY)
    headers = {"Authorization": Secret("Bearer " + key)}
    shown = ""
    try:
        headers.clear(7)  # type: ignore[call-arg] # fails, and that is its use here
    except TypeError as error:
        shown = "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    assert "headers" in shown
    assert "key = '***'" in shown
    assert KEY not in shown
    assert headers


def test_a_secret_equals_its_text() -> None:
    assert Secret(KEY) == KEY
    assert hash(Secret(KEY)) == hash(KEY)
    assert str(Secret(KEY)) == f"{Secret(KEY)}" == KEY
    assert not Secret("")


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_secret_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps({"key": Secret(KEY)}, protocol)


def test_a_secret_is_not_copied_into_something_that_shows_it() -> None:
    with pytest.raises(TypeError):
        copy.deepcopy(Secret(KEY))


# -- masks ------------------------------------------------------------------------------------------------------------


LETTERS = st.characters(codec="ascii", categories=["L", "N"])


@given(st.text(max_size=30), st.text(LETTERS, min_size=32, max_size=60), st.text(max_size=30), st.data())
def test_no_eight_characters_of_a_long_secret_are_left_however_it_is_cut(
    before: str, secret: str, after: str, data: st.DataObject
) -> None:
    begin = data.draw(st.integers(0, len(secret) - 8))
    end = data.draw(st.integers(begin + 8, len(secret)))
    shown = Mask(secret)(before + secret[begin:end] + after)
    assert not any(secret[at : at + 8] in shown.replace("***", "\0") for at in range(len(secret) - 7))
    assert "***" in shown


@given(st.text(LETTERS, min_size=32, max_size=60), st.binary(max_size=5), st.binary(max_size=5))
def test_a_secret_is_found_in_base64_of_a_text_that_contains_it(secret: str, before: bytes, after: bytes) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        shown = Mask(secret)(encode(before + secret.encode() + after).decode())
        # The remaining letters belong to the text around it, or to both.
        assert len(shown.replace("***", "")) <= 4 * (len(before) + len(after)) // 3 + 8


@given(st.text(), st.text(min_size=8))
def test_a_text_without_a_secret_stays_as_it_is(text: str, secret: str) -> None:
    if not any(secret[at : at + 8] in text for at in range(len(secret) - 7)):
        assert Mask(secret)(text) == text
        assert Mask()(text) == text


@given(plain_json())
def test_a_value_without_a_secret_is_returned_unchanged(value: object) -> None:
    assert Mask("sk-" + "q7" * 24).inside(value) == value


def test_a_secret_is_masked_in_keys_and_at_any_depth_and_deeper_values_are_dropped() -> None:
    mask = Mask(KEY)
    assert mask.inside({KEY: [{"a": (f"x {KEY}", 1)}]}) == {"***": [{"a": ("x ***", 1)}]}
    deep: list[object] = [KEY]
    for _ in range(500):
        deep = [deep]
    assert KEY not in repr(mask.inside(deep))


@pytest.mark.parametrize("secret", ["", "none", "v1", "1234567"])
def test_a_short_secret_may_be_a_word_and_is_not_masked(secret: str) -> None:
    assert Mask(secret)("none of v1: 1234567") == "none of v1: 1234567"


def test_a_secret_of_words_is_masked_as_a_whole_only() -> None:
    mask = Mask("correct-horse-battery")
    assert mask("the horse-battery of correct-horse-battery") == "the horse-battery of ***"


def test_a_part_of_a_secret_is_as_secret() -> None:
    # rich, for example, shows the first eighty characters of a longer text.
    assert repr(Secret("k" * 200)[:80]) == "'***'"
    assert KEY not in pretty_repr({"key": Secret(KEY * 4)}, max_string=80)
