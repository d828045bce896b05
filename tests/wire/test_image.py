from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from imagen_async.exceptions import ProtocolError
from imagen_async.wire import image_formats
from imagen_async.wire.image import EXTENSIONS, MEDIA_TYPES, Facts, Inspector
from tests.pictures import SAMPLES, chunk, encoded, ihdr, png
from tests.strategies import chunkings, cut

ALL = [sample for samples in SAMPLES.values() for sample in samples]
Verdict = Facts | tuple[str, str]


def inspect(*spans: bytes | memoryview, **options: int) -> Facts:
    inspector = Inspector(**options)  # type: ignore[arg-type]  # a bool is an int here
    for span in spans:
        inspector.feed(span)
    return inspector.finish()


def verdict(*spans: bytes) -> Verdict:
    try:
        return inspect(*spans)
    except ProtocolError as error:
        return error.check, error.message


def check_of(*spans: bytes, **options: int) -> str:
    with pytest.raises(ProtocolError, match=r"at byte \d+ of the image") as caught:
        inspect(*spans, **options)
    assert caught.value.offset is None
    return caught.value.check


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_a_whole_image_gives_its_format_pixels_and_size(kind: str) -> None:
    for sample in SAMPLES[kind]:
        with Image.open(io.BytesIO(sample)) as image:
            width, height = image.size
        assert inspect(sample) == Facts(kind, width, height, len(sample))


def test_every_format_has_an_extension_and_a_media_type() -> None:
    assert set(EXTENSIONS) == set(MEDIA_TYPES) == set(SAMPLES)


@pytest.mark.parametrize("sample", ALL)
def test_bytes_that_arrive_one_by_one_give_the_same_facts(sample: bytes) -> None:
    view = memoryview(sample)
    assert inspect(*(view[i : i + 1] for i in range(len(sample)))) == inspect(sample)


@st.composite
def broken_images(draw: st.DrawFn) -> bytes:
    image = bytearray(draw(st.sampled_from(ALL)))
    for _ in range(draw(st.integers(0, 3))):
        # Mostly in the head, where the frame is.
        place = draw(st.integers(0, min(60, len(image) - 1)) | st.integers(0, len(image) - 1))
        image[place] = draw(st.integers(0, 255))
    return bytes(image[: draw(st.none() | st.integers(0, len(image)))]) + draw(st.binary(max_size=3))


@given(image=broken_images() | st.binary(max_size=40), places=chunkings)
@example(image=b"", places=[])
@example(image=b"\xff\xd8\xff", places=[1, 2])
def test_any_chunking_gives_the_same_verdict_and_no_other_error(image: bytes, places: list[int]) -> None:
    assert verdict(*cut(image, places)) == verdict(image)


@pytest.mark.parametrize("sample", ALL)
def test_an_image_cut_off_anywhere_is_refused(sample: bytes) -> None:
    for length in range(len(sample)):
        # The first bytes of an image are the beginning of one, so what is missing is its end.
        assert check_of(sample[:length]) == "image-end"


@pytest.mark.parametrize("sample", ALL)
def test_bytes_after_the_end_are_refused(sample: bytes) -> None:
    assert check_of(sample, b"\n") == check_of(sample + b"\n") == "image-end"


@pytest.mark.parametrize("sample", SAMPLES["png"])
def test_every_flipped_bit_of_a_png_is_detected(sample: bytes) -> None:
    for place in range(0, len(sample), 7):
        assert not isinstance(verdict(sample[:place] + bytes([sample[place] ^ 4]) + sample[place + 1 :]), Facts)


def test_a_damaged_pixel_is_a_checksum_error_unless_checksums_are_off() -> None:
    damaged = png().replace(b"pixels", b"pixel5")
    assert check_of(damaged) == "image-checksum"
    assert inspect(damaged, checksums=False).width == 2


def test_a_damaged_header_is_a_checksum_error() -> None:
    assert check_of(png().replace(b"\x08\x02\x00\x00\x00", b"\x10\x02\x00\x00\x00")) == "image-checksum"


@pytest.mark.parametrize(
    "text", [b"GIF89a\x01\x00\x01", b"<html>", b"{}", b"\x00", b"RIFF\x24\x00\x00\x00WAVEfmt ", b"BM\x00\x00\x00\x00"]
)
def test_an_unknown_format_is_reported_with_its_first_bytes(text: bytes) -> None:
    with pytest.raises(ProtocolError) as caught:
        inspect(text)
    assert caught.value.check == "image"
    assert repr(text[:8]) in caught.value.message


def test_html_is_refused_while_it_arrives() -> None:
    with pytest.raises(ProtocolError):
        Inspector().feed(b"<!DOCTYPE html>")


def test_an_inspector_that_has_refused_goes_on_refusing() -> None:
    inspector = Inspector()
    with pytest.raises(ProtocolError) as first:
        inspector.feed(b"GIF89a..")
    for call in (lambda: inspector.feed(png()), inspector.finish):
        with pytest.raises(ProtocolError) as again:
            call()
        assert str(again.value) == str(first.value)


IDAT, IEND = chunk(b"IDAT", b"pixels"), chunk(b"IEND")


@pytest.mark.parametrize(
    ("image", "check"),
    [
        (png(IDAT, ihdr(), IEND), "image"),
        (png(ihdr(), ihdr(), IDAT, IEND), "image"),
        (png(ihdr(), IEND), "image-end"),
        (png(ihdr(), chunk(b"IDAT"), IEND), "image-end"),
        (png(ihdr(), IDAT, chunk(b"IEND", b"x")), "image"),
        (png(ihdr(), IDAT, chunk(b"I\x00\x01\x02"), IEND), "image"),
        (png(ihdr(), struct.pack(">I", 2**31) + b"IDAT"), "image"),
        (png(ihdr(0, 2), IDAT, IEND), "image-size"),
        (png(ihdr(2, 0), IDAT, IEND), "image-size"),
        (png(ihdr(2**13, 2**13 + 1), IDAT, IEND), "image-size"),
        (png(ihdr(fields=b"\x03\x02\x00\x00\x00"), IDAT, IEND), "image"),
        (png(ihdr(fields=b"\x08\x05\x00\x00\x00"), IDAT, IEND), "image"),
        (png(ihdr(fields=b"\x08\x02\x01\x00\x00"), IDAT, IEND), "image"),
        (png(ihdr(fields=b"\x08\x02\x00\x00\x02"), IDAT, IEND), "image"),
    ],
)
def test_a_png_with_a_wrong_frame_is_refused(image: bytes, check: str) -> None:
    assert check_of(image) == check


def test_a_png_may_have_many_chunks_of_any_length_and_unknown_ones() -> None:
    pieces = [chunk(b"IDAT", bytes(n)) for n in (0, 1, 8192, 70_000)]
    image = png(ihdr(), chunk(b"tEXt", b"prompt\0fox"), chunk(b"zzZz"), *pieces, chunk(b"tIME", bytes(7)), IEND)
    assert inspect(image) == Facts("png", 2, 2, len(image))


def test_the_limit_on_pixels_is_the_callers() -> None:
    assert inspect(png(), max_pixels=4).height == 2
    for sample in ALL:
        assert check_of(sample, max_pixels=3) == "image-size"


SOF = b"\xff\xc0\x00\x0b\x08\x00\x10\x00\x18\x01\x01\x11\x00"
SOS = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"


def jpeg(*segments: bytes) -> bytes:
    return b"\xff\xd8" + b"".join(segments)


def test_a_jpeg_may_fill_up_with_ff_and_hold_markers_without_a_length() -> None:
    image = jpeg(b"\xff\xff", SOF, b"\xff\x01", b"\xff\xff\xff", SOS, b"pixels\xff\x00\xff\xd9")
    assert inspect(image) == Facts("jpeg", 24, 16, len(image))


@pytest.mark.parametrize(
    ("image", "check"),
    [
        (jpeg(SOS, b"pixels\xff\xd9"), "image-size"),
        (jpeg(SOF, b"\xff\xd9"), "image-end"),
        (jpeg(SOF, SOS, b"\xff\xd9"), "image-end"),
        (jpeg(SOF, b"\x00\x00", SOS), "image"),
        (jpeg(b"\xff\x00", SOF), "image"),
        (jpeg(b"\xff\xd8", SOF), "image"),
        (jpeg(b"\xff\xfe\x00\x01", SOF), "image"),
        (jpeg(b"\xff\xc0\x00\x05\x08\x00\x10"), "image"),
        (jpeg(b"\xff" * 3000), "image"),
        (jpeg(SOF.replace(b"\x00\x10\x00\x18", b"\x00\x00\x00\x18"), SOS, b"pixels\xff\xd9"), "image-size"),
    ],
)
def test_a_jpeg_with_a_wrong_frame_is_refused(image: bytes, check: str) -> None:
    assert check_of(image) == check


def webp(*chunks: bytes, size: int | None = None) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body) if size is None else size) + body


def riff(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


VP8X = riff(b"VP8X", bytes(4) + b"\x17\x00\x00" + b"\x0f\x00\x00")
VP8 = riff(b"VP8 ", b"\x10\x00\x00\x9d\x01\x2a\x18\x00\x10\x00pixels")


def test_an_extended_webp_has_the_pixels_of_its_canvas() -> None:
    image = webp(VP8X, riff(b"ICCP", b"odd"), VP8)
    assert inspect(image) == Facts("webp", 24, 16, len(image))


def test_a_webp_may_lack_its_very_last_padding_byte() -> None:
    image = webp(VP8, riff(b"EXIF", b"odd")[:-1])
    assert inspect(image).size == len(image)


@pytest.mark.parametrize(
    ("image", "check"),
    [
        (webp(), "image-end"),
        (webp(VP8X), "image-end"),
        (webp(VP8X, riff(b"EXIF", b"data")), "image-end"),
        (webp(riff(b"ICCP", b"data"), VP8), "image"),
        (webp(riff(b"VP8 ", b"short")), "image"),
        (webp(VP8.replace(b"\x9d\x01\x2a", b"\x9d\x01\x2b")), "image"),
        (webp(VP8.replace(b"\x10\x00\x00\x9d", b"\x11\x00\x00\x9d")), "image"),
        (webp(riff(b"VP8L", b"\x2e\x00\x00\x00\x00")), "image"),
        (webp(VP8, size=20), "image"),
        (webp(VP8, size=2**32 - 1), "image-end"),
        (webp(VP8.replace(b"\x18\x00\x10\x00", b"\x00\x00\x10\x00")), "image-size"),
    ],
)
def test_a_webp_with_a_wrong_frame_is_refused(image: bytes, check: str) -> None:
    assert check_of(image) == check


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_is_never_held(kind: str) -> None:
    image = memoryview(encoded(kind, 640, 480))
    inspector = Inspector()
    for start in range(0, len(image), 1000):
        inspector.feed(bytearray(image[start : start + 1000]))
        held = (inspector._carry, inspector._beginning, inspector._tail)
        assert sum(map(len, held)) < 48


def test_a_fed_buffer_is_free_to_be_used_again() -> None:
    buffer = bytearray(png())
    inspector = Inspector()
    inspector.feed(buffer)
    buffer.clear()  # Raises BufferError while a view of it is left.
    assert inspector.finish().format == "png"


@given(st.binary(max_size=20_000), st.integers(0, 2**32 - 1))
def test_checksums_are_those_of_the_standard_library(data: bytes, start: int) -> None:
    assert image_formats.crc32(data, start) == zlib.crc32(data, start)


def test_without_the_extra_for_speed_the_standard_library_computes_the_checksums() -> None:
    code = """
import sys, zlib
sys.modules["isal"] = None
from imagen_async.wire import image_formats
print(image_formats.crc32 is zlib.crc32)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    assert done.stdout == "True\n"
