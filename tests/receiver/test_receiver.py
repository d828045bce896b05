from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import ImagenError, ProtocolError, StoreError
from imagen_async.receiver.caps import Caps
from imagen_async.receiver.receiver import Receiver
from tests.pictures import SAMPLES, chunk, encoded, ihdr, png
from tests.profiles import times
from tests.receiving import ScriptedBody, receive, receiver_context
from tests.servers import body_of
from tests.spying import SpyStore
from tests.strategies import chunkings, cut, spelled_bodies

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from imagen_async.outcome import Image

KIB = 1024


async def images_of(store: SpyStore, chunks: Iterable[Any], **options: Any) -> tuple[Image, ...]:
    received = await receive(store, chunks, **options)
    if received.fault is not None:
        raise received.fault
    return received.images


async def refusal(store: SpyStore, body: bytes, **options: Any) -> ImagenError:
    with pytest.raises(ImagenError) as caught:
        await images_of(store, [body], **options)
    assert store.open_sinks == 0
    return caught.value


def text_of(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


def big_png(size: int) -> bytes:
    return png(ihdr(), chunk(b"IDAT", bytes(size)), chunk(b"IEND"))


@given(st.lists(st.sampled_from([*SAMPLES["png"], *SAMPLES["jpeg"], *SAMPLES["webp"]]), max_size=4), chunkings)
@times(0.6)
def test_any_cutting_of_a_body_brings_the_same_images_into_the_store(pictures: list[bytes], places: list[int]) -> None:
    store = SpyStore()
    images = asyncio.run(images_of(store, cut(body_of(*pictures), places)))
    assert store.committed == pictures
    assert [image.index for image in images] == list(range(len(pictures)))
    assert [image.size for image in images] == [len(picture) for picture in pictures]


@given(spelled_bodies(), chunkings)
@times(0.4)
def test_whatever_comes_every_image_is_committed_whole_or_discarded(body: bytes, places: list[int]) -> None:
    store = SpyStore()
    received = asyncio.run(receive(store, cut(body, places)))
    assert len(received.images) == len(store.committed)
    assert store.open_sinks == 0


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
async def test_an_image_is_told_for_what_it_is(kind: str) -> None:
    picture = encoded(kind, 24, 16)
    (image,) = await images_of(SpyStore(), [body_of(picture)], sha256=True, indices=[5])
    assert (image.format, image.width, image.height, image.size) == (kind.lower(), 24, 16, len(picture))
    assert image.sha256 == hashlib.sha256(picture).hexdigest()
    assert (image.index, image.path, image.data) == (5, "fox-5", None)
    assert image.notes == (() if kind == "PNG" else (f"the gateway sent {kind.lower()} where png was requested",))


async def test_a_digest_is_made_only_if_it_is_asked_for() -> None:
    (image,) = await images_of(SpyStore(), [body_of(png())])
    assert image.sha256 is None


async def test_what_the_gateway_says_of_an_image_goes_with_it() -> None:
    data = {"b64_json": base64.b64encode(png()).decode(), "revised_prompt": "a red fox", "url": None}
    (image,) = await images_of(SpyStore(), [json.dumps({"data": [data]}).encode()])
    assert image.details == {"revised_prompt": "a red fox"}


async def test_images_that_the_filter_took_are_passed_over() -> None:
    items = [
        None,
        {},
        {"b64_json": base64.b64encode(png()).decode()},
        {"b64_json": None, "url": None},
        {"b64_json": ""},
    ]
    store = SpyStore()
    (image,) = await images_of(store, [json.dumps({"data": items}).encode()])
    assert (image.index, store.committed) == (0, [png()])


async def test_a_body_without_images_opens_nothing() -> None:
    store = SpyStore()
    assert await images_of(store, [b'{"created": 1, "data": []}']) == ()
    assert store.sinks == []


async def test_a_thumbnail_beside_the_images_is_not_kept() -> None:
    text = base64.b64encode(png()).decode()
    thumbnail = base64.b64encode(encoded("JPEG")).decode()
    body = json.dumps({"data": [{"b64_json": text, "thumbnail": {"b64_json": thumbnail}}]}).encode()
    store = SpyStore()
    assert len(await images_of(store, [body], n=1)) == 1
    assert store.committed == [png()]


async def test_the_store_is_called_in_writer_threads_only() -> None:
    store = SpyStore()
    await images_of(store, [body_of(big_png(900 * KIB), png())])
    with pytest.raises(ProtocolError):
        await images_of(store, [body_of(big_png(900 * KIB))[:-10]])
    threads = set().union(*(sink.threads for sink in store.sinks))
    assert threads
    assert all(name.startswith("imagen-writer") for name in threads)


async def test_nothing_is_visible_before_the_whole_body_has_its_verdict() -> None:
    store = SpyStore()
    body = body_of(*[big_png(700 * KIB)] * 3)

    def chunks() -> Iterator[bytes]:
        yield body[:-1]
        assert len(store.sinks) >= 2
        assert store.committed == []
        yield body[-1:]
        assert store.committed == []

    await receive(store, chunks())
    assert len(store.committed) == 3


async def test_what_waits_in_memory_does_not_grow_with_the_image() -> None:
    store, picture = SpyStore(), big_png(6 * KIB * KIB)
    body, most = body_of(picture), 0

    def chunks() -> Iterator[bytes]:
        nonlocal most
        for start in range(0, len(body), 64 * KIB):
            yield body[start : start + 64 * KIB]
            written = sum(len(sink.data) for sink in store.sinks)
            most = max(most, (start + 64 * KIB) * 3 // 4 - written)

    assert len(await images_of(store, chunks(), n=1)) == 1
    assert most < 3 * KIB * KIB


@pytest.mark.parametrize("end", [100, 5000])
async def test_of_a_body_that_ends_early_the_images_before_its_end_are_kept(end: int) -> None:
    store = SpyStore()
    error = await refusal(store, body_of(png(), encoded("PNG"), big_png(600 * KIB))[:-end])
    assert isinstance(error, ProtocolError)
    assert error.check == "truncated"
    assert store.committed == [png(), encoded("PNG")]


@pytest.mark.parametrize(
    ("broken", "check"),
    [
        (b"no image at all", "image"),
        (png()[:-12], "image-end"),
        (png() + b"more", "image-end"),
        (encoded("PNG")[:60] + b"\0\0\0\0" + encoded("PNG")[64:], "image-checksum"),
        (encoded("JPEG")[:-2], "image-end"),
        (b"\x89PNG", "image-end"),
    ],
)
async def test_an_image_that_is_not_whole_is_named_and_the_others_are_kept(broken: bytes, check: str) -> None:
    store = SpyStore()
    what = await receive(store, [body_of(png(), broken, encoded("PNG"))], indices=[4, 7, 9])
    assert isinstance(what.fault, ProtocolError)
    assert (what.fault.check, what.fault.item) == (check, 1)
    assert [image.index for image in what.images] == [4, 9]
    assert store.committed == [png(), encoded("PNG")]


async def test_a_fault_says_which_item_it_is_in_though_others_were_filtered() -> None:
    items: list[Any] = [None, {"b64_json": text_of(png())}, {}, {"b64_json": "AA*A"}, {"url": "https://example.org/"}]
    what = await receive(SpyStore(), [json.dumps({"data": items}).encode()])
    assert isinstance(what.fault, ProtocolError)
    assert (what.fault.check, what.fault.item) == ("base64", 3)
    assert [image.index for image in what.images] == [0]


@pytest.mark.parametrize(
    ("item", "check"),
    [
        ({"url": "https://example.org/a.png"}, "url"),
        ({"b64_json": 7}, "b64_json"),
        ("an image", "item"),
        ({"b64_json": "AA*A"}, "base64"),
        ({"b64_json": "AAAAA"}, "base64"),
    ],
)
async def test_what_is_no_inline_image_is_its_item_s_own_fault(item: Any, check: str) -> None:
    good = {"b64_json": text_of(png())}
    for position in range(3):
        items = [good, good]
        items.insert(position, item)
        store = SpyStore()
        what = await receive(store, [json.dumps({"data": items}).encode()])
        assert isinstance(what.fault, ProtocolError)
        assert (what.fault.check, what.fault.item) == (check, position)
        assert store.committed == [png(), png()]


async def test_if_no_image_can_be_used_the_fault_comes_alone() -> None:
    store = SpyStore()
    what = await receive(store, [body_of(b"no image", b"none either")])
    assert isinstance(what.fault, ProtocolError)
    assert (what.images, what.fault.check, what.fault.item) == ((), "image", 0)
    assert store.sinks == []


async def test_no_more_of_an_image_is_taken_once_it_is_known_to_be_broken() -> None:
    store, broken = SpyStore(), b"no image at all" + bytes(4 * KIB * KIB)
    body = body_of(broken, png())
    what = await receive(store, [body[at : at + 64 * KIB] for at in range(0, len(body), 64 * KIB)])
    assert [image.index for image in what.images] == [1]
    assert [sink.name.index for sink in store.sinks] == [1]


async def test_a_broken_image_does_not_hold_the_chunk_in_which_it_broke() -> None:
    fault = (await receive(SpyStore(), [body_of(b"no image", png())])).fault
    assert fault is not None
    assert fault.__traceback__ is None


async def test_what_was_committed_is_told_in_the_order_of_its_index() -> None:
    store = SpyStore()
    what = await receive(store, [body_of(png(), encoded("PNG"))], indices=[8, 2])
    assert [(image.index, image.width) for image in what.images] == [(2, 24), (8, 2)]


async def test_an_image_given_at_both_keys_is_one_image_and_the_next_has_the_next_index() -> None:
    both = {"url": "data:image/png;base64," + text_of(encoded("JPEG")), "b64_json": text_of(png())}
    store = SpyStore()
    for item in (both, dict(reversed(both.items()))):
        what = await receive(store, [json.dumps({"data": [item, item]}).encode()], n=2)
        assert [image.index for image in what.images] == [0, 1]
    assert store.committed == [png()] * 4


async def test_a_text_without_characters_takes_no_image_s_index() -> None:
    items = [{"b64_json": ""}, {"b64_json": text_of(png())}, {"b64_json": ""}, {"b64_json": text_of(png())}]
    what = await receive(SpyStore(), [json.dumps({"data": items}).encode()], n=2)
    assert [image.index for image in what.images] == [0, 1]


async def test_previews_before_the_images_take_none_of_their_indices() -> None:
    preview = [{"b64_json": text_of(encoded("JPEG"))}] * 3
    body = json.dumps({"previews": preview, "data": [{"b64_json": text_of(png())}]}).encode()
    store = SpyStore()
    what = await receive(store, [body], n=1)
    assert [image.index for image in what.images] == [0]
    assert store.committed == [png()]


async def test_why_images_were_filtered_is_told() -> None:
    items = [{"b64_json": text_of(png())}, {"raiFilteredReason": "Support codes: 39322892"}]
    what = await receive(SpyStore(), [json.dumps({"data": items}).encode()])
    assert what.document is not None
    assert what.document.reasons == ("Support codes: 39322892",)


async def test_more_images_than_asked_are_refused() -> None:
    store = SpyStore()
    error = await refusal(store, body_of(png(), png(), png()), n=2)
    assert isinstance(error, ProtocolError)
    assert error.check == "images"
    assert store.committed == []


async def test_an_image_over_the_cap_is_refused_while_it_arrives() -> None:
    store, body = SpyStore(), body_of(big_png(3 * KIB * KIB))
    fed = 0

    def chunks() -> Iterator[bytes]:
        nonlocal fed
        for start in range(0, len(body), 64 * KIB):
            fed = start
            yield body[start : start + 64 * KIB]

    fault = (await receive(store, chunks(), caps=Caps(max_image_bytes=KIB * KIB))).fault
    assert isinstance(fault, ProtocolError)
    assert fault.check == "size"
    assert fed < len(body) * 3 // 4
    assert sum(len(sink.data) for sink in store.sinks) <= KIB * KIB
    assert store.open_sinks == 0


async def test_an_image_of_exactly_the_cap_passes() -> None:
    for size in (0, -1):
        cap = len(png()) + size
        store = SpyStore()
        if size:
            assert isinstance(await refusal(store, body_of(png()), caps=Caps(max_image_bytes=cap)), ProtocolError)
        else:
            assert len(await images_of(store, [body_of(png())], caps=Caps(max_image_bytes=cap))) == 1


async def test_an_image_of_more_pixels_than_the_cap_is_refused() -> None:
    error = await refusal(SpyStore(), body_of(png(), encoded("PNG", 24, 16)), caps=Caps(max_pixels=383))
    assert isinstance(error, ProtocolError)
    assert (error.check, error.item) == ("image-size", 1)


@pytest.mark.parametrize("step", ["open", "write", "commit"])
async def test_a_store_that_fails_fails_the_answer_and_leaves_nothing_open(step: str) -> None:
    store = SpyStore(fails=step, from_index=1)
    error = await refusal(store, body_of(png(), png(), png()))
    assert isinstance(error, StoreError)
    assert store.committed == [png()]


async def test_a_body_that_waits_for_the_gate_stays_in_its_socket() -> None:
    held = asyncio.Event()

    class HeldBody(ScriptedBody):
        def hold(self) -> None:
            held.set()

    with receiver_context(max_reading=1) as context:
        await context.gate.enter()
        receiver = Receiver(
            context,
            SpyStore(),
            job_id="fox",
            indices=[0],
            output_format="png",
            sha256=False,
            on_store_failure=lambda _: None,
        )
        task = asyncio.ensure_future(receiver.receive(HeldBody(iter([body_of(png())]))))
        await held.wait()
        assert receiver.images == ()
        context.gate.leave()
        await task
    assert len(receiver.images) == 1


async def test_a_body_that_is_in_memory_already_does_not_wait_for_the_gate() -> None:
    with receiver_context(max_reading=1) as context:
        await context.gate.enter()
        receiver = Receiver(
            context,
            SpyStore(),
            job_id="fox",
            indices=[0],
            output_format="png",
            sha256=False,
            on_store_failure=lambda _: None,
        )
        await receiver.receive(ScriptedBody(iter([body_of(png())]), here=True))
        context.gate.leave()
    assert len(receiver.images) == 1
