"""Pictures: true sizes and weights, repeatable, bounded."""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from typing import TYPE_CHECKING, Literal

import pytest
from PIL import Image

from imagen_async.catalog import ASPECT_RATIOS
from imagen_async.exceptions import MissingExtraError
from imagen_async.sandbox import SandboxGateway, pictures, read_stamp
from imagen_async.sandbox.pictures import PictureShop, Plate

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


@pytest.fixture
async def shop(request: pytest.FixtureRequest) -> AsyncIterator[PictureShop]:
    scale: Literal["realistic", "tiny"] = getattr(request, "param", "tiny")
    made = PictureShop(scale)
    yield made
    await made.aclose()


def opened(plate: Plate) -> Image.Image:
    image = Image.open(io.BytesIO(plate.stamped(prompt="x").data()))
    image.load()
    return image


@pytest.mark.slow
@pytest.mark.parametrize("shop", ["realistic"], indirect=True)
@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
async def test_images_have_the_real_pixel_size_and_the_file_size_of_photographs(shop: PictureShop, ratio: str) -> None:
    for kind, low, high in (("png", 1_300_000, 1_550_000), ("jpeg", 200_000, 290_000)):
        for plate in await shop.plates("x", 4, aspect_ratio=ratio, output_format=kind):
            assert low <= len(plate.stamped(prompt="x").data()) <= high
            assert opened(plate).size == ASPECT_RATIOS[ratio]


@pytest.mark.parametrize("ratio", ASPECT_RATIOS)
async def test_tiny_images_keep_the_proportions(shop: PictureShop, ratio: str) -> None:
    width, height = ASPECT_RATIOS[ratio]
    for kind in ("png", "jpeg"):
        [plate] = await shop.plates("x", 1, aspect_ratio=ratio, output_format=kind)
        image = opened(plate)
        assert image.format == kind.upper()
        assert image.width * height == image.height * width
        assert 100 <= len(plate.head) + plate.tail_size <= 1000


async def test_a_prompt_gets_the_same_pixels_in_every_shop_and_its_images_differ(shop: PictureShop) -> None:
    async def pixels(of: PictureShop) -> list[bytes]:
        plates = await of.plates("A red fox", 4, aspect_ratio="1:1", output_format="png")
        return [opened(plate).tobytes() for plate in plates]

    other = PictureShop("tiny")
    assert await pixels(shop) == await pixels(other)
    assert len(set(await pixels(shop))) == 4
    await other.aclose()


async def test_plates_are_rendered_once_and_a_bounded_number_is_kept(
    shop: PictureShop, monkeypatch: pytest.MonkeyPatch
) -> None:
    rendered = []
    render: Callable[..., Image.Image] = pictures._painted

    def counted(*args: object, **keywords: object) -> Image.Image:
        rendered.append(keywords)
        return render(*args, **keywords)

    monkeypatch.setattr(pictures, "_painted", counted)
    await asyncio.gather(*(shop.plates("x", 4, aspect_ratio="1:1", output_format="png") for _ in range(20)))
    assert len(rendered) == 4
    monkeypatch.setattr(pictures, "PLATES_KEPT", 5)
    for ratio in ASPECT_RATIOS:
        await shop.plates("x", 4, aspect_ratio=ratio, output_format="jpeg")
        assert len(shop._plates) <= 5


async def test_a_failed_rendering_is_repeated(shop: PictureShop, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(pictures, "_painted", lambda *_, **__: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            await shop.plates("x", 1, aspect_ratio="1:1", output_format="png")
    assert len(await shop.plates("x", 1, aspect_ratio="1:1", output_format="png")) == 1


async def test_closing_during_a_rendering_ends_the_thread() -> None:
    shop = PictureShop("realistic")
    asking = [
        asyncio.create_task(shop.plates("x", 4, aspect_ratio=ratio, output_format="png")) for ratio in ASPECT_RATIOS
    ]
    await asyncio.sleep(0)
    await shop.aclose()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("sandbox-pictures")]
    for task in asking:
        task.cancel()
    await asyncio.wait(asking)


async def test_stamps_differ_and_the_rest_is_shared(shop: PictureShop) -> None:
    [plate] = await shop.plates("x", 1, aspect_ratio="1:1", output_format="png")
    first, second = plate.stamped(prompt="A red fox"), plate.stamped(prompt="An otter")
    assert first.base64[-1] is second.base64[-1]
    assert read_stamp(first.data()) == {"prompt": "A red fox"}
    assert read_stamp(second.data()) == {"prompt": "An otter"}


@pytest.mark.parametrize("kind", ["png", "jpeg"])
async def test_an_image_can_be_stamped_so_that_its_base64_needs_padding(shop: PictureShop, kind: str) -> None:
    [plate] = await shop.plates("x", 1, aspect_ratio="1:1", output_format=kind)
    picture = plate.stamped_for_padding(prompt="x")
    assert b"".join(picture.base64).endswith(b"==")
    assert read_stamp(picture.data()) == {"prompt": "x"}


async def test_without_pillow_starting_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(MissingExtraError, match=r"imagen-async\[sandbox\]"):
        await SandboxGateway().start()
