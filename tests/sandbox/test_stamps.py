"""Stamps: any prompt, three formats, still a valid image."""

from __future__ import annotations

import functools
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from imagen_async.exceptions import ProtocolError
from imagen_async.sandbox.stamps import read_stamp, stamp_after, stamped_head

KINDS = ("png", "jpeg", "webp")


@functools.cache
def picture(kind: str) -> bytes:
    file = io.BytesIO()
    Image.radial_gradient("L").convert("RGB").resize((24, 16)).save(file, kind)
    return file.getvalue()


def marked(kind: str, facts: dict[str, Any], remainder: int = 0) -> bytes:
    data = picture(kind)
    at = stamp_after(data)
    return stamped_head(data[:at], facts, remainder=remainder) + data[at:]


@pytest.mark.parametrize("kind", KINDS)
@given(prompt=st.text(st.characters(codec="utf-8")), index=st.integers(0, 3))
def test_a_stamp_is_read_back_for_any_prompt(kind: str, prompt: str, index: int) -> None:
    facts = {"prompt": prompt, "index": index}
    assert read_stamp(marked(kind, facts)) == facts


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("length", [1, 59_990, 200_000])
def test_a_stamped_image_decodes_to_the_same_pixels(kind: str, length: int) -> None:
    data = marked(kind, {"prompt": "ü" * length})
    with Image.open(io.BytesIO(data)) as after, Image.open(io.BytesIO(picture(kind))) as before:
        assert after.format == kind.upper()
        assert after.tobytes() == before.tobytes()
    assert read_stamp(data)["prompt"] == "ü" * length


@pytest.mark.parametrize("kind", ["png", "jpeg"])
@given(length=st.integers(0, 10) | st.integers(59_970, 60_010), remainder=st.integers(0, 2))
def test_the_head_has_the_length_asked_for(kind: str, length: int, remainder: int) -> None:
    data = picture(kind)
    head = stamped_head(data[: stamp_after(data)], {"p": "x" * length}, remainder=remainder)
    assert len(head) % 3 == remainder


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_without_a_stamp_is_an_error(kind: str) -> None:
    with pytest.raises(ProtocolError, match="not an image that a sandbox made"):
        read_stamp(picture(kind))


@given(st.sampled_from(KINDS), st.integers(0, 400))
def test_a_truncated_image_has_its_stamp_or_is_a_typed_error(kind: str, cut: int) -> None:
    try:
        facts = read_stamp(marked(kind, {"index": 1})[:cut])
    except ProtocolError:
        return
    assert facts == {"index": 1}


@given(st.sampled_from([b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8", b"RIFF"]), st.binary(max_size=100))
def test_arbitrary_bytes_have_no_stamp(start: bytes, rubbish: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_stamp(start + rubbish)
