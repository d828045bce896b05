from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import ProtocolError
from imagen_async.wire.base64 import Base64Decoder
from imagen_async.wire.decoder import Payload
from tests.profiles import times
from tests.strategies import chunkings, cut


def decoded(spans: list[bytes], offset: int = 0) -> bytes:
    decoder = Base64Decoder(0)
    parts: list[bytes] = []
    for span in spans:
        parts += decoder.decode(Payload(0, memoryview(span), offset))
        offset += len(span)
    return b"".join([*parts, *decoder.flush()])


def refusal(text: bytes, places: list[int] | None = None) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        decoded(cut(text, places or []), 1000)
    assert caught.value.check == "base64"
    return caught.value


@given(st.binary(max_size=3000), chunkings)
def test_any_cutting_of_standard_text_gives_the_bytes(data: bytes, places: list[int]) -> None:
    assert decoded(cut(base64.b64encode(data), places)) == data


@given(st.binary(min_size=1, max_size=3000), chunkings, st.integers(1, 80), st.sampled_from([b"\n", b"\r\n", b" "]))
def test_any_cutting_of_text_in_lines_gives_the_bytes(data: bytes, places: list[int], width: int, end: bytes) -> None:
    text = base64.b64encode(data)
    lines = end.join(text[i : i + width] for i in range(0, len(text), width)) + end
    assert decoded(cut(lines, places)) == data


@given(st.binary(min_size=1, max_size=3000), chunkings)
def test_url_safe_text_without_padding_gives_the_bytes(data: bytes, places: list[int]) -> None:
    assert decoded(cut(base64.urlsafe_b64encode(data).rstrip(b"="), places)) == data


@given(st.binary(min_size=1, max_size=300), chunkings)
def test_a_data_url_gives_the_bytes_behind_its_prefix(data: bytes, places: list[int]) -> None:
    assert decoded(cut(b" data:image/png;base64," + base64.b64encode(data), places)) == data


@given(st.binary(min_size=1, max_size=300), st.integers(0, 400), st.sampled_from(b'*\x00\x80"%~='), chunkings)
@times(2)
def test_a_foreign_character_is_refused_at_its_own_byte(data: bytes, at: int, bad: int, places: list[int]) -> None:
    text = base64.b64encode(data).rstrip(b"=")
    at %= len(text)
    error = refusal(text[:at] + bytes((bad,)) + text[at:], places)
    if bad != ord("="):
        assert error.offset == 1000 + at


@pytest.mark.parametrize(
    "text", [b"Q", b"QQ=", b"QQ===", b"QUJD=", b"=", b"QR==", b"QUK=", b"QQ==QQ==", b"QQ==Q", b"Q=Q="]
)
def test_text_that_no_encoder_writes_is_refused(text: bytes) -> None:
    refusal(text)
    refusal(text, list(range(len(text))))


def test_a_data_url_that_is_not_base64_is_refused() -> None:
    refusal(b"data:image/svg+xml,<svg/>")
    refusal(b"data:" + b"x" * 400)


@given(chunkings)
def test_a_data_url_that_is_not_base64_is_refused_at_its_beginning_however_it_is_cut(places: list[int]) -> None:
    assert refusal(b" \ndata:image/png;bas64,QUJD", places).offset == 1002


@pytest.mark.parametrize("width", [267, 268, 269, 3000])
def test_much_white_space_before_the_text_is_not_a_data_url(width: int) -> None:
    text = b" " * width + base64.b64encode(bytes(600))
    assert decoded([text]) == decoded([text[:100], text[100:]]) == bytes(600)


@pytest.mark.parametrize(
    ("text", "offset"),
    [(b"QQ==QQ*=", 4), (b"QQ=*", 3), (b"QQ= =\n=*", 6), (b"QQ== = ", 5), (b"QU*D=QUJD", 2), (b"QUJD====", 6)],
)
@given(places=chunkings)
@times(0.4)
def test_the_first_character_out_of_place_is_to_blame_however_it_is_cut(
    text: bytes, offset: int, places: list[int]
) -> None:
    assert refusal(text, places).offset == 1000 + offset


def test_no_more_than_three_characters_are_carried() -> None:
    decoder = Base64Decoder(0)
    for span in cut(base64.b64encode(bytes(1000)), list(range(0, 1300, 7))):
        list(decoder.decode(Payload(0, span, 0)))
        assert len(decoder._carry) <= 3


def test_a_character_behind_escapes_behind_a_data_url_is_blamed_where_it_stands() -> None:
    raw = b"data:image\\/png;base64,AAAA\\nAA?"
    span = Payload(0, raw.replace(b"\\/", b"/").replace(b"\\n", b"\n"), 10, raw)
    with pytest.raises(ProtocolError) as caught:
        list(Base64Decoder(0).decode(span))
    assert caught.value.offset == 10 + raw.index(b"?")
