"""Compressed bodies: valid, invalid, of unknown encoding, and bombs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from imagen_async import Caps, ImagenError, LocalStore, OverloadedError, ProtocolError, RejectedError
from imagen_async.exceptions import FailureClass
from tests.clients import files_under
from tests.hostile.attacking import FOX, OWL, answered, asking, hostile_gateway
from tests.hostile.bodies import ASKED, BODY, FIRST, SECOND
from tests.hostile.bombs import BOMBS, PACKERS, bomb, packed
from tests.servers import answer, body_of, reply, serving

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async import ImagenClient
    from tests.servers import Asked

KIB, MIB = 2**10, 2**20


def said(body: bytes, encoding: str, *, status: int = 200, length: int | None = None) -> bytes:
    return reply(body, status=status, length=length, headers=f"Content-Encoding: {encoding}\r\n")


async def failed(client: ImagenClient, folder: Path | None = None) -> ImagenError:
    store = None if folder is None else LocalStore(folder)
    with pytest.raises(ImagenError) as caught:
        await client.generate(FOX, n=ASKED, store=store)
    assert folder is None or files_under(folder) == []
    return caught.value


# -- what can be unpacked ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", PACKERS)
async def test_a_compressed_response_that_was_not_requested_is_decompressed(encoding: str) -> None:
    handler = answer(said(packed(BODY, encoding), encoding))
    async with hostile_gateway(handler) as server, asking(server) as client:
        outcome = await client.generate(FOX, n=ASKED)
        assert server.asked[0].headers["Accept-Encoding"] == "identity"
    assert [image.data for image in outcome.images] == [FIRST, SECOND]


@pytest.mark.parametrize("encoding", ["gzip", "br", "zstd"])
@pytest.mark.parametrize("length", ["right", "of the whole"])
async def test_complete_images_of_a_truncated_compressed_response_are_kept(encoding: str, length: str) -> None:
    body = packed(BODY, encoding)
    half = body[: len(body) * 3 // 4]
    handler = answer(said(half, encoding, length=len(body) if length == "of the whole" else None), close=True)
    async with hostile_gateway(handler) as server, asking(server) as client:
        outcome = await client.generate(FOX, n=ASKED)
    assert [image.data for image in outcome.images] == [FIRST]
    (attempt,) = outcome.attempts
    assert (attempt.failure, attempt.doubtful) == (FailureClass.AMBIGUOUS, 1)
    assert "at byte" in str(outcome.error)


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize("body", [BODY, b"", b"\0"], ids=["plain", "nothing", "a NUL byte"])
async def test_a_body_that_contradicts_its_encoding_header_is_a_typed_error(encoding: str, body: bytes) -> None:
    async with hostile_gateway(answer(said(body, encoding))) as server, asking(server) as client:
        error = await failed(client)
    assert isinstance(error, ProtocolError)
    # A library may decode one byte to nothing, and nothing has no offset.
    assert error.check == "content-encoding" if len(body) > 1 else error.check in {"content-encoding", "empty"}
    assert error.offset in {0, None}


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize("damage", ["flipped", "cut off"])
async def test_a_damaged_compressed_response_is_never_accepted(encoding: str, damage: str) -> None:
    body = bytearray(packed(BODY, encoding))
    place = len(body) * 3 // 4
    if damage == "flipped":
        body[place] ^= 0xFF
    else:
        del body[place:]
    async with hostile_gateway(answer(said(bytes(body), encoding))) as server, asking(server) as client:
        kept, error = await answered(client, FOX)
    # aiohttp reports only the damage if it arrives in one packet with the headers.
    assert kept in ([FIRST], [])
    assert isinstance(error, ProtocolError)
    assert error.check in {"content-encoding", "truncated", "base64", "image-checksum", "json"}


# -- what cannot ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("encoding", "library"), [("br", "Brotli"), ("zstd", "backports.zstd")])
async def test_an_encoding_without_its_library_is_named_with_what_to_install(
    encoding: str, library: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aiohttp.http_parser.HAS_BROTLI", False)
    monkeypatch.setattr("aiohttp.http_parser.HAS_ZSTD", False)
    async with hostile_gateway(answer(said(packed(BODY, encoding), encoding))) as server, asking(server) as client:
        error = await failed(client)
        assert (await client.generate(OWL)).ok
    assert isinstance(error, ProtocolError)
    assert error.check == "content-encoding"
    assert f"Content-Encoding: {encoding}" in str(error)
    assert f"install `{library}`" in str(error)
    assert [attempt.failure for attempt in error.attempts] == [FailureClass.AMBIGUOUS]


# -- bombs ------------------------------------------------------------------------------------------------------------


CHECKS = {
    "an image": ("size", "an image of over 1"),
    "no image": ("size", "an image of over 1573886 characters in item 0 at byte"),
    "a text": ("size", "besides the images at byte 262144"),
    "many texts": ("size", "besides the images at byte 262144"),
    "brackets": ("depth", "deeper than 64 at byte"),
    "white space": ("size", "before the JSON at byte 262144"),
    "comments": ("size", "before the JSON at byte 262144"),
    "rubbish": ("json", "not a JSON object"),
}


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize("kind", BOMBS)
async def test_a_bomb_stops_at_the_cap(kind: str, encoding: str, tmp_path: Path) -> None:
    check, where = CHECKS[kind]
    body = bomb(kind, encoding, blocks=16)
    async with (
        hostile_gateway(answer(said(body, encoding))) as server,
        asking(server, caps=Caps(max_image_bytes=MIB)) as client,
    ):
        error = await failed(client, tmp_path)
    assert isinstance(error, ProtocolError)
    assert error.check == check
    assert where in str(error)


@pytest.mark.parametrize("encoding", PACKERS)
@pytest.mark.parametrize(("status", "kind"), [(500, OverloadedError), (400, RejectedError)])
async def test_a_bomb_in_an_error_is_an_error(encoding: str, status: int, kind: type[ImagenError]) -> None:
    body = bomb("rubbish", encoding, blocks=4)
    async with hostile_gateway(answer(said(body, encoding, status=status))) as server, asking(server) as client:
        assert type(await failed(client)) is kind


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux lets a process forget its peak of memory")
async def test_the_memory_for_bombs_of_300_mb_is_bounded(tmp_path: Path) -> None:
    bodies = {encoding: said(bomb("an image", encoding), encoding) for encoding in ("gzip", "br", "zstd")}
    bodies["good"] = reply(body_of(FIRST))

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(bodies[asked.json["prompt"]])

    async with serving(handler) as server:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.hostile.bombed", server.base_url, str(tmp_path), stdout=subprocess.PIPE
        )
        out, _ = await child.communicate()
    ended = json.loads(out)
    assert len(ended["told"]) == 3
    assert all("an image of over 67108864 bytes" in told for told in ended["told"])
    assert ended["grown"] < 32 * KIB
    assert len(files_under(tmp_path)) == 1
