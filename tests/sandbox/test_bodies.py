"""Odd wrappings have the same content; bodies record where images end."""

from __future__ import annotations

import base64
import gzip
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.sandbox.bodies import WRAPPERS, BodyItem, image_item, json_body
from imagen_async.sandbox.faults import WRAPPINGS
from imagen_async.sandbox.pictures import Picture


def picture(data: bytes) -> Picture:
    text = base64.b64encode(data)
    return Picture((text[:3], text[3:]))


def understood(body: bytes) -> tuple[int, list[bytes]]:
    """Parse a body as a very tolerant client does."""
    if body.startswith(b"\x1f\x8b"):
        body = gzip.decompress(body)
    text = re.sub(r"^: .*\n+", "", body.decode("utf-8-sig"), flags=re.MULTILINE)
    document = json.loads(text)
    return document["created"], [_image(item["b64_json"]) for item in document["data"]]


def _image(text: str) -> bytes:
    text = re.sub(r"^data:image/\w+;base64,|\s", "", text).replace("-", "+").replace("_", "/")
    return base64.b64decode(text.rstrip("=") + "=" * (-len(text.rstrip("=")) % 4), validate=True)


@pytest.mark.parametrize("name", WRAPPINGS)
@given(images=st.lists(st.binary(min_size=1, max_size=300), min_size=1, max_size=4))
def test_an_oddly_wrapped_response_has_the_same_content(name: str, images: list[bytes]) -> None:
    body = WRAPPERS[name]([picture(data) for data in images], 1234)
    assert understood(b"".join(body.pieces)) == (1234, images)
    assert body.images_in(body.size) == len(images)
    assert body.images_in(0) == 0


@pytest.mark.parametrize("name", WRAPPINGS)
def test_each_wrapping_is_odd(name: str) -> None:
    # 256 bytes of every value: both special characters of the alphabet, padding, and more than one line.
    pictures = [picture(bytes(range(256)))]
    plain = json_body([image_item(p.base64) for p in pictures], 1)
    assert b"".join(WRAPPERS[name](pictures, 1).pieces) != b"".join(plain.pieces)


def test_every_wrapping_of_the_table_can_be_made() -> None:
    assert set(WRAPPERS) == set(WRAPPINGS)


def test_jpegs_prefix_says_jpeg() -> None:
    assert b"data:image/jpeg;base64," in b"".join(WRAPPERS["data-prefix"]([picture(b"\xff\xd8\xff\xe0")], 1).pieces)


@given(st.lists(st.binary(max_size=30), max_size=4))
def test_an_image_counts_from_its_last_byte_on(images: list[bytes]) -> None:
    body = json_body([image_item(picture(data).base64) for data in images], 1)
    whole = b"".join(body.pieces)
    assert json.loads(whole)["data"] == [{"b64_json": base64.b64encode(data).decode()} for data in images]
    for count, end in enumerate(body.ends):
        assert whole[:end].endswith(b'"}')
        assert (body.images_in(end - 1), body.images_in(end)) == (count, count + 1)


def test_items_that_are_not_images_do_not_count() -> None:
    body = json_body([BodyItem.of({}), image_item([b"AAAA"]), BodyItem.of(None)], 1, background=None)
    assert json.loads(b"".join(body.pieces)) == {
        "created": 1,
        "background": None,
        "data": [{}, {"b64_json": "AAAA"}, None],
    }
    assert len(body.ends) == 1
