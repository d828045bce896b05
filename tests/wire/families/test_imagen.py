from __future__ import annotations

import json

import pytest

from imagen_async.exceptions import ProtocolError
from imagen_async.request import ImageRequest
from imagen_async.wire.families.imagen import encode_request, read_models


def test_the_body_holds_the_contracts_fields_and_nothing_else() -> None:
    request = ImageRequest("A cute baby sea otter", n=2, aspect_ratio="16:9", output_format="jpeg", id="mine")
    assert json.loads(encode_request(request)) == {
        "model": "imagen-3.0-generate-001",
        "prompt": "A cute baby sea otter",
        "n": 2,
        "aspect_ratio": "16:9",
        "output_format": "jpeg",
        "response_format": "b64_json",
    }


def test_response_format_can_be_left_out() -> None:
    assert "response_format" not in json.loads(encode_request(ImageRequest("x"), send_response_format=False))


def test_extra_fields_go_through_untouched() -> None:
    extra = {"seed": 7, "nested": {"a": [1, None, "é"]}}
    body = json.loads(encode_request(ImageRequest("x", extra=extra)))
    assert (body["seed"], body["nested"]) == (7, {"a": [1, None, "é"]})


def test_equal_requests_give_equal_bytes() -> None:
    assert encode_request(ImageRequest("x", style=None)) == encode_request(ImageRequest("x"))


def test_style_is_sent_only_where_it_is_set() -> None:
    assert json.loads(encode_request(ImageRequest("x", style="sketch")))["style"] == "sketch"
    assert "style" not in json.loads(encode_request(ImageRequest("x")))


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[" * 10**5, b"null", b"[]", b"{}", b'{"data": null}', b'{"data": {}}']
)
def test_a_body_that_is_not_a_list_of_models_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="not a list of models"):
        read_models(body)


def test_model_ids_are_read_and_oddities_skipped() -> None:
    assert read_models(b'{"object": "list", "data": [{"id": "a"}, {"id": 1}, null, {"id": "b"}]}') == ("a", "b")
