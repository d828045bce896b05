from __future__ import annotations

import base64

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagen_async.exceptions import ProtocolError
from imagen_async.wire.decoder import Decoder, Event, Payload, PayloadEnd, PayloadStart
from tests.profiles import times
from tests.strategies import chunkings, cut, damaged, spelled_bodies
from tests.wire.oracles import stream, verdict_of_oracle, whole_body_oracle


@given(spelled_bodies(), chunkings)
@times(1)
def test_any_chunking_of_a_valid_body_gives_the_images_of_the_whole_body(body: bytes, places: list[int]) -> None:
    assert stream(cut(body, places)) == whole_body_oracle(body)


@given(spelled_bodies(), chunkings, st.integers(0, 9))
@times(0.5)
def test_a_body_in_memory_that_is_reused_gives_the_same(body: bytes, places: list[int], more: int) -> None:
    assert stream(cut(body, places), memory=bytearray(len(body) + more)) == whole_body_oracle(body)


def test_invalid_base64_in_memory_that_is_reused_is_reported_at_the_same_byte() -> None:
    body = b'{"data":[{"b64_json":"QUJD?QUJD"}]}'
    with pytest.raises(ProtocolError) as caught:
        stream(cut(body, [24]), memory=bytearray(64))
    assert (caught.value.check, caught.value.offset) == ("base64", body.index(b"?"))


def test_a_payload_is_passed_on_as_a_view_of_memory_that_is_reused() -> None:
    decoder, memory = Decoder(), bytearray(b"QUJDQUJD" + b"?" * 8)
    decoder.feed(b'{"data":[{"b64_json":"')
    (event,) = decoder.feed(memory, 8)
    assert isinstance(event, Payload)
    assert isinstance(event.data, memoryview)
    assert event.data.obj is memory
    assert bytes(event.data) == b"QUJDQUJD"


@given(spelled_bodies())
@times(0.5)
def test_a_valid_body_byte_by_byte_gives_the_images_of_the_whole_body(body: bytes) -> None:
    assert stream([body[i : i + 1] for i in range(len(body))]) == whole_body_oracle(body)


@given(damaged(spelled_bodies()), chunkings)
@times(2)
@example(b'{"data":[{"b64_json":"QUJD","b64_json":"REVG"}]}', [])
@example(b'{"data":[{"b64_json":"QR=="}]}', [])
@example(b'{"data":[{"b64_json":"QUJD\\', [])
@example(b'{"data":[{"url":"data:;base64,QU\\u004aD"}]}', [24, 27])
@example(b'{"data":[{"url":"\\u0064ata:;base64,QUJD"}]}', [18, 20])
@example(b'{"data":[{"url":"da\\"}]}', [19, 20])
@example(b'{"data":[{"b64_json":"\\\\"}]}', [23])
@example(b'{"data":[{"b64_json":"Q\\u0055\\u004a\\u0044"}]}', [24, 25, 26, 27, 28])
def test_a_damaged_body_gives_a_typed_error_or_the_result_of_the_whole_body(body: bytes, places: list[int]) -> None:
    oracle = verdict_of_oracle(body)
    try:
        verdict = stream(cut(body, places))
    except ProtocolError as error:
        assert oracle is None, error
        assert error.check
        assert error.offset is None or 0 <= error.offset <= len(body)
    else:
        assert verdict == oracle


@given(st.binary(max_size=200), chunkings)
def test_random_bytes_raise_only_protocol_errors(body: bytes, places: list[int]) -> None:
    try:
        stream(cut(body, places))
    except ProtocolError:
        pass
    else:
        assert verdict_of_oracle(body) is not None


@given(st.lists(st.sampled_from(list(b'{}[]",:\\ \nub64_jsonrldat=AQ0')), max_size=60).map(bytes), chunkings)
@times(3)
def test_random_structure_and_keys_give_the_verdict_of_the_whole_body(tail: bytes, places: list[int]) -> None:
    body = b'{"data":[{"b64_json":"' + tail
    oracle = verdict_of_oracle(body)
    try:
        verdict = stream(cut(body, places))
    except ProtocolError:
        assert oracle is None
    else:
        assert verdict == oracle


def error_of(body: bytes, **caps: int) -> ProtocolError:
    with pytest.raises(ProtocolError) as caught:
        stream([body], Decoder(**caps))
    return caught.value


@pytest.mark.parametrize(
    ("body", "check", "offset"),
    [
        (b"", "empty", 0),
        (b"  \n", "empty", 3),
        (b"<html><body>502</body></html>", "json", 0),
        (b"  null", "json", 2),
        (b"[1]", "json", 0),
        (b'{"data":[{"b64_json":"QUJD', "truncated", 26),
        (b'{"data":[{"b64_json":"QUJD"}', "truncated", 28),
        (b'{"data":[{"b64_json":"QUJD"}]} x', "json", 31),
        (b'{"data":[{"b64_json":"QUJD"}], oops}', "json", 31),
        (b'{"data":[{"b64_json":"QU*D"}]}', "base64", 24),
        (b'{"data":[{"b64_json":"QU\\n*D"}]}', "base64", 26),
        (b'{"data":[{"b64_json":"QUJDQ"}]}', "base64", 27),
        (b'{"data":[{"b64_json":"QR=="}]}', "base64", 23),
        (b'{"data":[{"b64_json":"QQ==QQ=="}]}', "base64", 26),
        (b'{"data":[{"b64_json":"QUJD="}]}', "base64", 27),
        (b'{"data":[{"b64_json":"QQ="}]}', "base64", 25),
        (b'{"data":[{"b64_json":"\\q"}]}', "json", 22),
        (b'{"created":1}', "data", None),
        (b'{"data":null}', "data", None),
        (b'{"data":{}}', "data", None),
        (b'{"data":["x"]}', "item", None),
        (b'{"data":[{"b64_json":7}]}', "b64_json", None),
        (b'{"data":[{"url":"https://example.org/a.png"}]}', "url", None),
        (b'{"error":{"message":"no","code":500}}', "error-object", None),
        (b'{"data":[{"b64_json":"QUJD","b64_json":"QUJD"}]}', "duplicate-key", 28),
        (b'{"a":"\xff","data":[]}', "utf-8", 6),
        (b'{"data":[{"b64_json":"QUJD"}],"a":"\xff"}', "utf-8", 35),
    ],
)
def test_an_invalid_body_is_reported_with_the_check_and_the_byte(body: bytes, check: str, offset: int | None) -> None:
    error = error_of(body)
    assert (error.check, error.offset) == (check, offset)


def test_nesting_of_a_hundred_thousand_is_refused_at_the_cap() -> None:
    error = error_of(b'{"a":' + b"[" * 100_000)
    assert (error.check, error.offset) == ("depth", 5 + 63)


def test_an_image_over_the_cap_is_refused_while_it_arrives() -> None:
    decoder = Decoder(max_payload=100)
    decoder.feed(b'{"data":[{"b64_json":"' + b"A" * 100)
    with pytest.raises(ProtocolError, match="size") as caught:
        decoder.feed(b"A")
    assert caught.value.offset == 22 + 100


def test_text_around_the_images_over_the_cap_is_refused_while_it_arrives() -> None:
    decoder = Decoder(max_skeleton=1000)
    with pytest.raises(ProtocolError, match="size"):
        for _ in range(20):
            decoder.feed(b'{"revised_prompt":"' + b"x" * 100)


def test_endless_white_space_before_the_json_is_refused() -> None:
    decoder = Decoder(max_skeleton=1000)
    with pytest.raises(ProtocolError, match="size"):
        for _ in range(20):
            decoder.feed(b" " * 100)


@given(chunkings)
@times(0.4)
def test_too_much_text_before_the_json_is_refused_at_the_cap_in_any_chunking(places: list[int]) -> None:
    decoder = Decoder(max_skeleton=100)
    with pytest.raises(ProtocolError) as caught:
        for part in cut(b" \n" + b": PROCESSING\n" * 20, places):
            decoder.feed(part)
    assert (caught.value.check, caught.value.offset) == ("size", 100)


@given(chunkings)
@times(0.4)
def test_text_before_an_invalid_escape_is_passed_on_in_any_chunking(places: list[int]) -> None:
    decoder, handed = Decoder(), list[Event]()
    with pytest.raises(ProtocolError) as caught:
        for part in cut(b'{"data":[{"b64_json":"QU\\/D\\qUJD"}]}', places):
            handed += decoder.feed(part)
    handed += decoder.before_fault
    assert (caught.value.check, caught.value.offset) == ("json", 27)
    assert b"".join(bytes(event.data) for event in handed if isinstance(event, Payload)) == b"QU/D"


def test_more_images_than_the_cap_are_refused_when_the_first_surplus_one_begins() -> None:
    error = error_of(b'{"data":[' + b",".join([b'{"b64_json":"QUJD"}'] * 3) + b"]}", max_payloads=2)
    assert error.check == "images"


def test_a_payload_is_passed_on_as_a_view_of_its_chunk_and_never_kept() -> None:
    decoder = Decoder()
    decoder.feed(b'{"data":[{"b64_json":"')
    chunk = base64.b64encode(bytes(range(256)) * 300)
    (event,) = decoder.feed(chunk)
    assert isinstance(event, Payload)
    assert isinstance(event.data, memoryview)
    assert event.data.obj is chunk
    assert len(decoder._skeleton) < 100


def test_the_order_of_events_is_start_spans_end() -> None:
    decoder = Decoder()
    events: list[Event] = []
    for chunk in (b'{"data":[{"b64_json":"QU', b'JD"},{"b64_json":"REVG"}]}'):
        events += decoder.feed(chunk)
    kinds = [(type(event), event.hole) for event in events]
    assert kinds == [
        (PayloadStart, 0), (Payload, 0), (Payload, 0), (PayloadEnd, 0),
        (PayloadStart, 1), (Payload, 1), (PayloadEnd, 1),
    ]  # fmt: skip


def test_a_placeholder_sent_by_the_gateway_is_an_ordinary_payload() -> None:
    error = error_of(b'{"data":[{"b64_json":"data:hole-0"},{"b64_json":"QUJD"}]}')
    assert error.check == "base64"


def test_images_outside_data_are_not_images_of_the_response() -> None:
    body = b'{"preview":{"b64_json":"!!"},"data":[{"b64_json":"QUJD"}]}'
    assert stream([body]) == (b"ABC",)


def test_a_preview_beside_an_image_is_skipped_with_any_content() -> None:
    decoder = Decoder()
    chunks = cut(
        b'{"data":[{"preview":{"b64_json":"\\u0021!"},"b64_json":"QUJD"},{"b64_json":"REVG"}]}', list(range(90))
    )
    events = [event for chunk in chunks for event in decoder.feed(chunk)]
    assert {event.hole for event in events} == {0, 1}
    assert [item.hole for item in decoder.close().items] == [0, 1]


def test_details_of_an_item_are_kept_without_its_payload() -> None:
    decoder = Decoder()
    decoder.feed(b'{"created":7,"data":[{"revised_prompt":"a \\u00e9","b64_json":"QUJD","url":null}]}')
    document = decoder.close()
    assert document.created == 7
    assert dict(document.items[0].details) == {"revised_prompt": "a é"}
