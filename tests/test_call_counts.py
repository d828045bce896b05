"""How many calls a job and a chunk cost: a guard against slow code that no noisy machine disturbs.

Counted is what the package's own functions are called and call, in all threads; that hardly depends on the versions of
Python and aiohttp. A limit is what was counted when it was last set, and a twentieth more. Who brings a count down
brings its limit down; who has to raise one says in the commit what for.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import imagen_async
from imagen_async import Batch, ImagenClient, ImageRequest, LocalStore, MemoryStore
from tests.pictures import chunk, ihdr, png
from tests.receiving import receive
from tests.servers import answer, body_of, reply, serving_apart
from tests.spying import SpyStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from types import FrameType

HOME = str(Path(imagen_async.__file__).parent)
JOBS = 50
RUNS = 3
"""What comes over a real socket may come in two parts; the least of some runs is what it costs when it does not."""

PER_JOB = {"in memory": 417, "into files": 493, "as a batch": 683}
PER_CHUNK = {"one IDAT": 45, "of 8 KiB each": 113}


class Calls:
    """Counts, from `counted` on."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self.count = 0

    def note(self, frame: FrameType, event: str, _: object) -> None:
        if event in {"call", "c_call"} and frame.f_code.co_filename.startswith(HOME):
            self.count = next(self._numbers) + 1  # one step, so that no other thread comes between


@contextmanager
def counted() -> Iterator[Calls]:
    """Count in this thread and in those that begin inside."""
    calls = Calls()
    threading.setprofile(calls.note)
    sys.setprofile(calls.note)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


def requests(count: int) -> list[ImageRequest]:
    return [ImageRequest(f"A red fox, number {number}") for number in range(count)]


async def in_memory(client: ImagenClient, _: Path, count: int) -> None:
    async with client.stream(requests(count), store=MemoryStore()) as outcomes:
        assert [outcome.error async for outcome in outcomes] == [None] * count


async def into_files(client: ImagenClient, folder: Path, count: int) -> None:
    async with client.stream(requests(count), store=LocalStore(folder)) as outcomes:
        assert [outcome.error async for outcome in outcomes] == [None] * count


async def as_a_batch(client: ImagenClient, folder: Path, count: int) -> None:
    async with Batch(client, requests(count), output=folder, fsync=False) as batch:
        assert [outcome.error async for outcome in batch] == [None] * count


def calls_of(way: Callable[[ImagenClient, Path, int], Awaitable[None]], folder: Path, count: int) -> int:
    async def run(url: str) -> None:
        async with ImagenClient("key", url, max_concurrency=4) as client:
            await way(client, folder, count)

    with serving_apart(answer(reply(body_of(png())))) as server, counted() as calls:
        asyncio.run(run(server.base_url))
    return calls.count


@pytest.mark.parametrize("way", [in_memory, into_files, as_a_batch], ids=PER_JOB)
def test_a_job_costs_no_more_calls_than_it_did(
    tmp_path: Path, way: Callable[[ImagenClient, Path, int], Awaitable[None]], request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    few, many = (
        min(calls_of(way, tmp_path / f"{count}-{run}", count) for run in range(RUNS)) for count in (JOBS, 2 * JOBS)
    )
    each = (many - few) / JOBS
    assert each <= PER_JOB[name], "calls a job"


@pytest.mark.parametrize("encoder", ["one IDAT", "of 8 KiB each"])
async def test_a_chunk_costs_no_more_calls_than_it_did(encoder: str) -> None:
    content, step = bytes(range(256)) * 2**13, 2**21 if encoder == "one IDAT" else 2**13
    picture = png(ihdr(), *[chunk(b"IDAT", content[at : at + step]) for at in range(0, 2**21, step)], chunk(b"IEND"))
    body, size = body_of(picture), 2**18
    middle = [bytearray(body[at : at + size]) for at in range(size, len(body) - size, size)]
    count = 0

    def chunks() -> Iterator[bytes | bytearray]:
        nonlocal count
        yield body[:size]
        with counted() as calls:
            yield from middle
        count = calls.count
        yield body[size + size * len(middle) :]

    [image] = (await receive(SpyStore(), chunks(), n=1)).images
    assert image.size == len(picture)
    assert count / len(middle) <= PER_CHUNK[encoder], "calls a chunk of 256 KiB"
