"""A batch that is cancelled at any step leaves nothing behind, and its journal accounts for every image."""

from __future__ import annotations

import asyncio
import functools
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import AuthenticationError, ImagenClient, ImageRequest
from imagen_async.batch import Batch, open_source
from imagen_async.batch.journal import read_status
from imagen_async.outcome import Status
from tests.batch.running import errors, files, metadata, strays
from tests.cancelling import attacked, attacks, covers_a_whole_run, ground, nothing_left, stepping
from tests.clients import linux

if TYPE_CHECKING:
    from tests.cancelling import Ground

pytestmark = [linux, pytest.mark.slow]

Scene = Callable[[ImagenClient, Path], Coroutine[Any, Any, object]]

REQUESTS = [ImageRequest("a fox", n=2), ImageRequest("an owl"), ImageRequest("a hen")]
WANTED = {request.prompt: request.n for request in REQUESTS}
TROUBLE = ("good", "429", "cut", "500")


class Fault(Exception):  # noqa: N818 - a test's own
    pass


def batch_of(client: ImagenClient, folder: Path) -> Batch:
    return Batch(client, REQUESTS, output=folder, fsync=False)


async def whole(client: ImagenClient, folder: Path) -> None:
    async with batch_of(client, folder) as batch:
        async for _ in batch:
            pass


async def from_a_file(client: ImagenClient, folder: Path) -> None:
    path = folder.with_suffix(".jsonl")
    path.write_text("".join(f'{{"prompt": "{prompt}", "n": {n}}}\n' for prompt, n in WANTED.items()))
    async with Batch(client, open_source(path), output=folder, fsync=False) as batch:
        async for _ in batch:
            pass


async def drained_at_the_first(client: ImagenClient, folder: Path) -> None:
    async with batch_of(client, folder) as batch:
        async for _ in batch:
            batch.drain()


async def left_by_an_error(client: ImagenClient, folder: Path) -> None:
    with suppress(Fault):
        async with batch_of(client, folder) as batch:
            async for _ in batch:
                raise Fault


async def stopped(client: ImagenClient, folder: Path) -> None:
    with suppress(AuthenticationError):
        await whole(client, folder)


async def closed_in_the_middle(client: ImagenClient, folder: Path) -> None:
    async with batch_of(client, folder) as batch:
        await anext(batch)
        await batch.aclose()


async def check_the_folder(client: ImagenClient, land: Ground, folder: Path) -> None:
    """Check that every image is where its record says, that every billed one is kept or in doubt, and resume."""
    journal, billed = folder / ".imagen", Counter(land.gateway.billed)
    kept: Counter[str] = Counter()
    if (journal / "journal.sqlite").exists():
        kept = Counter(line["prompt"] for line in metadata(folder))
        assert {line["file_name"] for line in metadata(folder)} == files(folder)
        assert read_status(journal).jobs["intent"] == 0
        doubted: Counter[str] = Counter()
        for line in errors(folder):
            images = sum(doubt["images"] for doubt in line.get("doubts", ()))
            doubted[REQUESTS[line["line"] - 1].prompt] += images
        assert billed <= kept + doubted
        assert strays(folder) == []
    else:
        assert not billed
    async with Batch(client, REQUESTS, output=folder, fsync=False, retry_failed=True) as batch:
        assert {outcome.status async for outcome in batch} <= {Status.SUCCEEDED, Status.SKIPPED}
    assert Counter(line["prompt"] for line in metadata(folder)) == WANTED
    again = Counter(land.gateway.billed) - billed
    assert again == Counter(WANTED) - kept


def attack(scene: Scene, script: tuple[str, ...], folder: Path, steps: Iterator[tuple[int, ...]]) -> list[int]:
    """Run a scene with each of the attacks until one comes after its end.

    Returns:
        How many requests the gateway had read when each run ended; the last run is the one without a cancellation.
    """
    read: list[int] = []

    async def main() -> None:
        async with ground() as land:
            for when in steps:
                async with land.client(*script) as client:
                    own, before = folder / str(len(read)), len(land.server.asked)
                    ended = await attacked(scene(client, own), *when)
                    read.append(len(land.server.asked) - before)
                    land.gateway.script.clear()
                    await check_the_folder(client, land, own)
                    await nothing_left(client)
                assert ended.cancelling == ended.hits
                if not ended.hits:
                    assert ended.error is None
                    return
                assert isinstance(ended.error, asyncio.CancelledError)

    stepping(main)
    return read


@pytest.mark.parametrize(
    ("scene", "script", "every"),
    [
        (whole, (), 2),
        (whole, TROUBLE, 7),
        (from_a_file, (), 7),
        (drained_at_the_first, TROUBLE, 7),
        (left_by_an_error, (), 7),
        (closed_in_the_middle, TROUBLE, 7),
        (stopped, ("good", "401"), 5),
    ],
)
def test_a_batch_that_is_cancelled_at_any_step_loses_nothing_and_buys_nothing_again(
    scene: Scene, script: tuple[str, ...], every: int, tmp_path: Path
) -> None:
    assert covers_a_whole_run(attack(scene, script, tmp_path, attacks(every=every)))


@pytest.mark.parametrize(("scene", "script"), [(whole, ()), (whole, TROUBLE), (stopped, ("good", "401"))])
def test_a_batch_that_is_cancelled_again_while_it_settles_still_settles(
    scene: Scene, script: tuple[str, ...], tmp_path: Path
) -> None:
    assert covers_a_whole_run(attack(scene, script, tmp_path, attacks((1, 4, 9), (2,), every=20)))


def test_a_timeout_settles_a_batch(tmp_path: Path) -> None:
    expired: list[bool] = []

    async def within(limit: asyncio.Timeout, client: ImagenClient, folder: Path) -> None:
        async with limit:
            await whole(client, folder)

    def over(limit: asyncio.Timeout) -> None:
        limit.reschedule(asyncio.get_running_loop().time())

    async def main() -> None:
        async with ground() as land:
            for (when,) in attacks(begin=1, every=10):
                async with land.client(*TROUBLE) as client:
                    limit, folder = asyncio.timeout(None), tmp_path / str(when)
                    ended = await attacked(within(limit, client, folder), when, action=functools.partial(over, limit))
                    land.gateway.script.clear()
                    await check_the_folder(client, land, folder)
                    await nothing_left(client)
                assert ended.cancelling == 0
                assert type(ended.error) is (TimeoutError if limit.expired() else type(None))
                expired.append(limit.expired())
                if not ended.hits:
                    return

    stepping(main)
    assert expired[0]
    assert expired == sorted(expired, reverse=True)  # a timeout after the end of the batch, and none before it
