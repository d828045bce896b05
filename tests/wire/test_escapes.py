from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from imagen_async.wire.escapes import ends_in_backslash, find_quote, undo, unescaped, unfinished

texts = st.text(st.characters(max_codepoint=127))


def spelled(text: str) -> bytes:
    return json.dumps(text).encode()[1:-1]


@given(texts)
def test_undoing_the_escapes_gives_the_characters(text: str) -> None:
    raw = spelled(text)
    assert undo(raw) == (text.encode(), len(raw))
    assert unescaped(raw) == text.encode()


@given(texts, texts)
def test_the_quote_that_ends_a_string_is_found(text: str, rest: str) -> None:
    raw = spelled(text)
    assert find_quote(raw + b'"' + rest.encode()) == len(raw)
    assert find_quote(raw) == -1


@given(texts, st.integers(0, 200))
def test_an_escape_cut_in_two_is_left_for_the_next_part(text: str, place: int) -> None:
    raw = spelled(text)
    part = raw[:place]
    whole = unfinished(part)
    assert undo(part[:whole])[1] == whole
    assert text.encode().startswith(undo(part[:whole])[0])
    assert len(part) - whole < 6
    if ends_in_backslash(part):
        assert whole == len(part) - 1


def test_undoing_stops_at_an_invalid_escape() -> None:
    assert undo(rb"a\/b\qc") == (b"a/b", 4)


def test_a_character_outside_ascii_is_one_byte_that_base64_refuses() -> None:
    assert undo(rb"\u00e9\u4e2d") == (b"\x80\x80", 12)
