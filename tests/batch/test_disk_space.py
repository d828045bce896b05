from __future__ import annotations

import asyncio
import shutil
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from imagen_async.batch import disk_space
from imagen_async.batch.disk_space import MIN_FREE, Space, free_bytes
from imagen_async.batch.progress import Progress
from imagen_async.exceptions import ConfigurationError, StoreError
from tests.batch.running import caught, metadata, numbered, run

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway

MIB = 2**20


def test_free_space_is_none_for_a_missing_folder(tmp_path: Path) -> None:
    assert (free_bytes(tmp_path) or 0) > 0
    assert free_bytes(tmp_path / "not there") is None


@pytest.mark.parametrize(
    ("free", "images", "progress", "enough"),
    [
        (MIN_FREE, 0, Progress(), True),
        (MIN_FREE - 1, 0, Progress(), False),
        (MIN_FREE + 30 * MIB, 10, Progress(), True),
        (MIN_FREE + 30 * MIB - 1, 10, Progress(), False),
        (MIN_FREE + 10_000, 10, Progress(images=8, bytes=8000), True),
        (MIN_FREE + 9_999, 10, Progress(images=8, bytes=8000), False),
        (MIN_FREE + 10_000, 10, Progress(images=7, bytes=7000), False),  # too few to know
        (None, 10, Progress(), True),  # the system does not know
    ],
)
async def test_the_needed_space_follows_the_images_so_far(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    free: int | None,
    images: int,
    progress: Progress,
    *,
    enough: bool,
) -> None:
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: free)
    space = Space(tmp_path, progress)
    try:
        await space.before_the_first(images)
    except StoreError as error:
        assert not enough
        assert "make room" in str(error)
        assert error.path == str(tmp_path)
    else:
        assert enough


async def test_before_the_first_request_the_disk_is_checked_once_for_all_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[Path] = []

    def free(folder: Path) -> int:
        looks.append(folder)
        return 2**40

    monkeypatch.setattr(disk_space, "free_bytes", free)
    space = Space(tmp_path, Progress())
    await asyncio.gather(*(space.before_the_first(4) for _ in range(5)))
    assert looks == [tmp_path]


async def test_the_disk_is_checked_at_every_call_after_the_first_check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = [MIN_FREE + 9 * MIB] * 2 + [MIN_FREE + 9 * MIB - 1]
    monkeypatch.setattr(disk_space, "free_bytes", lambda _: free.pop(0))
    space = Space(tmp_path, Progress())
    await space.before_the_first(3)
    await space.check(3)
    with pytest.raises(StoreError, match=r"only 25\.0 MiB are free"):
        await space.check(3)


async def test_without_min_free_the_disk_is_not_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def free(_: Path) -> int:
        raise AssertionError

    monkeypatch.setattr(disk_space, "free_bytes", free)
    space = Space(tmp_path, Progress(), min_free=0)
    await space.before_the_first(1000)
    await space.check(1000)
    with pytest.raises(ConfigurationError, match="min_free"):
        Space(tmp_path, Progress(), min_free=-1)


async def test_without_space_nothing_is_sent_and_the_folder_can_be_resumed(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    stopped = await caught(imagen_sandbox, numbered(5), tmp_path, min_free=2**60)
    assert isinstance(stopped.error, StoreError)
    assert stopped.outcomes == []
    assert imagen_sandbox.requests == 0
    assert (await run(imagen_sandbox, numbered(5), tmp_path)).summary.ok


async def test_a_finished_batch_needs_no_space(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    await run(imagen_sandbox, numbered(5), tmp_path)
    again = await run(imagen_sandbox, numbered(5), tmp_path, min_free=2**60)
    assert again.statuses == ["skipped"] * 5


async def test_when_space_runs_out_images_in_flight_are_kept_and_nothing_more_is_sent(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def usage(_: object) -> SimpleNamespace:
        return SimpleNamespace(total=2**60, free=1 if imagen_sandbox.ledger.billed_images else 2**60)

    with monkeypatch.context() as full:
        full.setattr("imagen_async.batch.recorder.EVERY_S", 0.0)
        full.setattr(shutil, "disk_usage", usage)
        stopped = await caught(imagen_sandbox, numbered(400), tmp_path, asking={"slots": 3})
    assert isinstance(stopped.error, StoreError)
    assert set(stopped.statuses) == {"succeeded"}
    assert len(stopped.outcomes) == imagen_sandbox.requests == len(metadata(tmp_path)) < 400
