from __future__ import annotations

import asyncio
import base64
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import DisconnectedError, StoreError
from imagen_async.receiver.caps import Caps
from tests.clock import settle
from tests.pictures import SAMPLES, chunk, encoded, ihdr, png
from tests.profiles import times
from tests.receiving import ScriptedBody, receive, receiving
from tests.servers import body_of
from tests.spying import SpyStore
from tests.strategies import Said, chunkings, cut, damaged, said, spelled_bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagen_async.outcome import Image

INDICES = (2, 3, 7, 8)
PICTURES = st.sampled_from([png(), png(ihdr(), chunk(b"IDAT", b"others"), chunk(b"IEND")), *SAMPLES["jpeg"][:1]])

DAMAGED = damaged(said(PICTURES).map(lambda answer: answer.body))


def text_of(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


CUT_OFF = DisconnectedError("the response was cut off", sent=True)


async def salvaged(store: SpyStore, chunks: list[bytes], *, ends: bool = False, **options: Any) -> tuple[Image, ...]:
    """What is kept of a body that breaks after `chunks`, or `ends` there without being whole."""
    images = (await receive(store, chunks, breaks=None if ends else CUT_OFF, **options)).images
    assert [image.path for image in images] == [f"fox-{image.index}" for image in images]
    return images


def kept(store: SpyStore) -> list[tuple[int, bytes]]:
    return [(sink.name.index, bytes(sink.data)) for sink in store.sinks if sink.ending == "committed"]


@given(answer=said(PICTURES), place=st.integers(0), places=chunkings, ends=st.booleans())
@times(4)
def test_wherever_a_body_is_cut_exactly_the_images_that_had_ended_are_kept(
    answer: Said, place: int, places: list[int], *, ends: bool
) -> None:
    place %= len(answer.body) + 1
    store, n = SpyStore(), len(answer.pictures)
    images = asyncio.run(salvaged(store, cut(answer.body[:place], places), ends=ends, indices=INDICES[:n]))
    whole = [pair for *pair, end in zip(INDICES, answer.pictures, answer.ends, strict=False) if end <= place]
    assert [list(pair) for pair in kept(store)] == whole
    assert [image.index for image in images] == [index for index, _ in whole]


@given(said(st.just(png()), most=2))
@times(0.1)
def test_at_every_single_byte_exactly_the_images_that_had_ended_are_kept(answer: Said) -> None:
    for place in range(len(answer.body) + 1):
        store = SpyStore()
        asyncio.run(salvaged(store, [answer.body[:place]], n=2))
        assert len(store.committed) == sum(end <= place for end in answer.ends)


@given(said(PICTURES), st.integers(0), st.integers(0, 3), chunkings)
@times(2)
def test_a_fault_of_the_document_takes_what_comes_after_it_and_nothing_else(
    answer: Said, place: int, kind: int, places: list[int]
) -> None:
    # Behind an image's text, before the next one's.
    at = answer.ends[place % len(answer.ends)]
    fault = [b" oops ", b'"', b"\xff", b"]]}"][kind]
    body = answer.body[:at] + fault + answer.body[at:]
    store = SpyStore()
    asyncio.run(salvaged(store, cut(body, places), ends=True))
    whole = [picture for picture, end in zip(answer.pictures, answer.ends, strict=True) if end <= at]
    assert store.committed == whole


@given(body=DAMAGED | spelled_bodies(), places=chunkings, ends=st.booleans())
@times(3)
def test_whatever_comes_salvage_raises_nothing_and_keeps_whole_images_only(
    body: bytes, places: list[int], *, ends: bool
) -> None:
    store = SpyStore()
    images = asyncio.run(salvaged(store, cut(body, places), ends=ends))
    assert len(images) == len(store.committed)
    assert all(picture[:3] in {b"\x89PN", b"\xff\xd8\xff"} for picture in store.committed)


@given(DAMAGED, chunkings)
@times(2)
def test_any_chunking_of_a_broken_body_leaves_the_same_images(body: bytes, places: list[int]) -> None:
    one, other = SpyStore(), SpyStore()
    asyncio.run(salvaged(one, [body], ends=True))
    asyncio.run(salvaged(other, cut(body, places), ends=True))
    assert kept(one) == kept(other)


def a_cut(*items: Any, **others: Any) -> bytes:
    """A body without its last bracket."""
    return json.dumps({"data": list(items), **others}).encode()[:-1]


GOOD = {"b64_json": text_of(png())}
JPEG = {"b64_json": text_of(encoded("JPEG"))}
PREVIEW = {"preview": JPEG}


@pytest.mark.parametrize(
    ("body", "indices"),
    [
        (a_cut(GOOD, GOOD), [0, 1]),
        (a_cut(GOOD | PREVIEW, PREVIEW | GOOD), [0, 1]),
        (a_cut(PREVIEW, GOOD), [0]),
        (b'{"previews":[' + json.dumps(JPEG).encode() + b']," data":[],' + a_cut(GOOD)[1:], [0]),
        (b'{"thumbnail":' + json.dumps(JPEG).encode(), []),
        (b'{"previews":[' + json.dumps(JPEG).encode() + b"]", []),
        (json.dumps(JPEG).encode()[:-1], []),
        (b"[" + a_cut(GOOD) + b"}", []),
        (a_cut(GOOD, error={"message": "out of memory"}), [0]),
        (b'{"error":{"message":"no"},' + a_cut(GOOD)[1:], [0]),
        (b'{"error":{"message":"no"},"data":null', []),
        (b'{"data":{"0":' + json.dumps(GOOD).encode(), []),
        (a_cut(GOOD, {"url": "https://example.org/"}, "x", 7, GOOD), [0, 1]),
        (a_cut({"url": "data:image/png;base64," + text_of(png())}, GOOD), [0, 1]),
        (a_cut({"url": "data:image/png;base64," + text_of(png())})[:-2] + b',"b64_json":"iVBO', [0]),
        (a_cut({"b64_json": text_of(png()[:-1])}, GOOD), [1]),
        (a_cut(GOOD, {"b64_json": text_of(png())[:-9] + "*"}, GOOD), [0, 2]),
    ],
)
async def test_an_image_is_what_stands_in_data(body: bytes, indices: list[int]) -> None:
    store = SpyStore()
    images = await salvaged(store, [body], n=3)
    assert [image.index for image in images] == indices
    assert set(store.committed) <= {png()}


@pytest.mark.parametrize(
    "body",
    [
        a_cut(GOOD, GOOD, GOOD),
        a_cut(GOOD, GOOD, GOOD) + b"}",
        a_cut(GOOD, GOOD)[:-1] + b',{"b64_json":"i',
        a_cut(GOOD)[:-2] + b',"b64_json":"',
        a_cut(GOOD)[:-2] + b',"b64_json"',
        a_cut(GOOD) + b',"data":[',
        a_cut(GOOD) + b',"data":[]} oops',
        a_cut(GOOD) + b',"d\\u0061ta":[]}',
        a_cut(GOOD) + b',"error":null,"error":{}',
    ],
)
async def test_nothing_is_kept_if_it_cannot_be_known_which_image_was_paid_for(body: bytes) -> None:
    for chunks in ([body], [body[at : at + 1] for at in range(len(body))]):
        store = SpyStore()
        assert await salvaged(store, chunks, ends=True, n=2) == ()
        assert store.committed == []


async def test_an_image_over_the_cap_breaks_the_body_and_the_ones_before_it_are_kept() -> None:
    bomb = png(ihdr(), chunk(b"IDAT", bytes(50_000)), chunk(b"IEND"))
    for body in (body_of(png(), bomb, png()), body_of(png(), bytes(200_000), png())):
        store = SpyStore()
        images = await salvaged(store, [body], caps=Caps(max_image_bytes=40_000))
        assert [image.index for image in images] == [0]


async def test_nesting_and_numbers_without_end_behind_the_images_do_not_take_them() -> None:
    for more in (b',"x":' + b"[" * 100_000, b',"x":' + b"9" * 9000 + b"}", b',"x":"' + b"y" * 300_000):
        store = SpyStore()
        assert len(await salvaged(store, [a_cut(GOOD, GOOD) + more], ends=True)) == 2


async def test_what_the_gateway_said_of_a_salvaged_image_goes_with_it_unless_it_was_cut() -> None:
    body = a_cut(GOOD | {"seed": 12, "revised_prompt": "a red fox"})
    (image,) = await salvaged(SpyStore(), [body])
    assert image.details == {"seed": 12, "revised_prompt": "a red fox"}
    (image,) = await salvaged(SpyStore(), [body[:-6]])
    assert image.details == {"seed": 12}


async def test_a_large_image_that_is_written_while_it_arrives_is_salvaged_whole() -> None:
    large = png(ihdr(), chunk(b"IDAT", bytes(range(256)) * 16384), chunk(b"IEND"))
    body = body_of(large, large, large)[:-300]
    store = SpyStore()
    images = await salvaged(store, [body[at : at + 65536] for at in range(0, len(body), 65536)], sha256=True)
    assert kept(store) == [(0, large), (1, large)]
    assert [sink.ending for sink in store.sinks] == ["committed", "committed", "discarded"]
    assert {image.size for image in images} == {len(large)}


async def test_of_a_body_that_breaks_before_it_begins_nothing_is_kept() -> None:
    store = SpyStore()
    received = await receive(store, [], breaks=CUT_OFF)
    assert (received.images, received.document, received.fault) == ((), None, CUT_OFF)
    assert store.sinks == []


@pytest.mark.parametrize("end", [None, -1], ids=["whole", "cut off"])
@pytest.mark.parametrize("step", ["open", "write", "commit"])
async def test_a_store_that_fails_for_one_image_keeps_the_others_and_leaves_nothing_open(
    step: str, end: int | None
) -> None:
    store = SpyStore(fails=step, from_index=1)
    async with receiving(store) as receiver:
        with pytest.raises(StoreError):
            await receiver.receive(ScriptedBody(iter([body_of(png(), png())[:end]]), CUT_OFF if end else None))
    assert [image.index for image in receiver.images] == [0]
    assert store.committed == [png()]


@pytest.mark.parametrize("body", [body_of(png()), body_of(png(), png())], ids=["of one image", "of two"])
async def test_a_cancelled_receiver_keeps_what_is_whole_and_leaves_nothing_open(body: bytes) -> None:
    store = SpyStore()

    def chunks() -> Iterator[object]:
        yield body[:-1]
        yield asyncio.Event().wait()

    async with receiving(store) as receiver:
        task = asyncio.ensure_future(receiver.receive(ScriptedBody(chunks())))
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(receiver.images) == len(store.committed) == len(json.loads(body)["data"])
