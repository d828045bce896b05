"""One client in several event loops, one after another."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

from imagen_async import ImagenClient, ImageRequest, LocalStore
from tests.pictures import png
from tests.servers import answer, body_of, reply, serving_apart

if TYPE_CHECKING:
    from pathlib import Path

CLOSING = reply(body_of(png()), headers="Connection: close\r\n")


def writer_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("imagen-writer")]


def test_one_client_serves_one_event_loop_after_another(tmp_path: Path) -> None:
    with serving_apart(answer(CLOSING, close=True)) as server:
        client = ImagenClient("sk-k", f"{server.base_url}/v1", max_reading=1)

        async def generate(number: int) -> int:
            requests = [ImageRequest(f"A red fox, {number}.{each}") for each in range(4)]
            async with client.stream(requests, store=LocalStore(tmp_path)) as outcomes:
                return sum([len(outcome.images) async for outcome in outcomes])

        assert [asyncio.run(generate(number)) for number in range(3)] == [4, 4, 4]
        asyncio.run(client.close())
    assert len(list(tmp_path.rglob("*.png"))) == 12
    assert not writer_threads()
