"""Missing and altered images are requested again with `redo_damaged` only, and no others with them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import ImageRequest
from imagen_async.batch import Verification
from imagen_async.batch.journal import read_status, transitions
from imagen_async.exceptions import ImagenError, LimitReachedError, StoreError
from tests.batch.journals import replace_step
from tests.batch.running import FOX, OWL, caught, errors, files, metadata, numbered, prompts, run
from tests.batch.test_adoption import crash

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


def place(folder: Path, index: int, job_id: str = "fox") -> Path:
    """Where an image is."""
    [line] = [line for line in metadata(folder) if (line["id"], line["index"]) == (job_id, index)]
    return folder / str(line["file_name"])


def alter(path: Path) -> bytes:
    """Change a byte of an image that is not part of its structure; return its new content."""
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    return bytes(content)


async def test_without_redo_damaged_nothing_is_bought(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    rows = [ImageRequest(FOX, n=2, id="fox"), OWL]
    await run(imagen_sandbox, rows, tmp_path)
    place(tmp_path, 1).unlink()
    before = metadata(tmp_path)
    for retry_failed in (False, True):
        assert (await run(imagen_sandbox, rows, tmp_path, retry_failed=retry_failed)).statuses == ["skipped"] * 2
    assert imagen_sandbox.requests == 2
    assert metadata(tmp_path) == before


async def test_only_damaged_images_are_requested_and_no_file_is_overwritten(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    rows = [*numbered(3), ImageRequest(FOX, n=4, id="fox")]
    await run(imagen_sandbox, rows, tmp_path)
    altered = place(tmp_path, 0)
    content = alter(altered)
    place(tmp_path, 2).unlink()
    others = {line["file_name"]: (tmp_path / line["file_name"]).read_bytes() for line in metadata(tmp_path)[:3]}
    again = await run(imagen_sandbox, rows, tmp_path, ordered=True, redo_damaged=True)
    assert again.statuses == ["skipped"] * 3 + ["succeeded"]
    assert [image.index for image in again.outcomes[3].images] == [0, 1, 2, 3]
    assert [entry.n for entry in imagen_sandbox.ledger.for_prompt(FOX)] == [4, 2]
    assert altered.read_bytes() == content
    names = {line["index"]: line["file_name"].split("/")[2] for line in metadata(tmp_path) if line["id"] == "fox"}
    assert names == {0: "fox-0~2.png", 1: "fox-1.png", 2: "fox-2.png", 3: "fox-3.png"}
    assert {name: (tmp_path / name).read_bytes() for name in others} == others
    altered.unlink()
    assert prompts(tmp_path) == sorted([FOX] * 4 + [row.prompt for row in numbered(3)])
    assert list(Verification(tmp_path)) == []
    assert errors(tmp_path) == []
    assert (await run(imagen_sandbox, rows, tmp_path, redo_damaged=True)).statuses == ["skipped"] * 4


async def test_an_image_that_is_redone_twice_has_a_third_name(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    rows = [ImageRequest(FOX, id="fox")]
    await run(imagen_sandbox, rows, tmp_path)
    for name in ("fox-0~2.png", "fox-0~3.png"):
        alter(place(tmp_path, 0))
        assert (await run(imagen_sandbox, rows, tmp_path, redo_damaged=True)).statuses == ["succeeded"]
        assert place(tmp_path, 0).name == name
    assert len(files(tmp_path)) == 3


async def test_the_new_purchase_counts_in_addition_to_the_old_one(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    rows = [ImageRequest(FOX, n=3, id="fox")]
    await run(imagen_sandbox, rows, tmp_path)
    alter(place(tmp_path, 0))
    for limit in ({"max_images": 3}, {"budget": 0.12}):
        stopped = await caught(imagen_sandbox, rows, tmp_path, redo_damaged=True, **limit)
        assert isinstance(stopped.error, LimitReachedError)
    assert imagen_sandbox.requests == 1
    # The request of an earlier run stays valid, although a cap stopped that run.
    done = await run(imagen_sandbox, rows, tmp_path, max_images=4, budget=0.16)
    assert (done.statuses, done.summary.images) == (["succeeded"], 1)
    told = read_status(tmp_path / ".imagen")
    assert (told.images, told.jobs["succeeded"], told.doubts) == (3, 1, 0)
    stopped = await caught(imagen_sandbox, [*rows, OWL], tmp_path, max_images=4)
    assert isinstance(stopped.error, LimitReachedError)


async def test_a_redo_that_dies_before_its_first_request_is_continued_by_the_next_run(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ImageRequest(FOX, n=2, id="fox")]
    await run(imagen_sandbox, rows, tmp_path)
    place(tmp_path, 1).write_bytes(place(tmp_path, 0).read_bytes())
    with monkeypatch.context() as dying:
        replace_step(dying, transitions.intent, _dead)
        with pytest.raises(_DeadError):
            await run(imagen_sandbox, rows, tmp_path, redo_damaged=True)
    told = read_status(tmp_path / ".imagen")
    assert (told.images, told.jobs["interrupted"], told.doubts) == (1, 1, 0)
    assert [line["index"] for line in metadata(tmp_path)] == [0]
    # A complete image has its name, but not the recorded one.
    assert (await run(imagen_sandbox, rows, tmp_path)).statuses == ["succeeded"]
    assert [entry.n for entry in imagen_sandbox.ledger] == [2, 1]
    assert place(tmp_path, 1).name == "fox-1~2.png"


class _DeadError(Exception):
    pass


async def _dead(*_: Any, **__: Any) -> None:
    raise _DeadError


async def test_a_restored_file_is_adopted_and_not_bought(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ImageRequest(FOX, n=2, id="fox")]
    await run(imagen_sandbox, rows, tmp_path)
    lost = place(tmp_path, 1)
    content = lost.read_bytes()
    lost.unlink()
    with monkeypatch.context() as dying:
        replace_step(dying, transitions.intent, _dead)
        with pytest.raises(_DeadError):
            await run(imagen_sandbox, rows, tmp_path, redo_damaged=True)
    lost.write_bytes(content)
    assert (await run(imagen_sandbox, rows, tmp_path)).statuses == ["skipped"]
    assert imagen_sandbox.requests == 1
    assert list(Verification(tmp_path)) == []


async def test_a_second_name_without_its_record_is_adopted(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash after the new image has its name, and before the journal has it."""
    rows = [ImageRequest(FOX, n=2, id="fox")]
    await run(imagen_sandbox, rows, tmp_path)
    alter(place(tmp_path, 0))
    with monkeypatch.context() as crashing:
        crashing.setattr("tests.batch.test_adoption.run", _redoing)
        await crash(monkeypatch, imagen_sandbox, rows, tmp_path)
    assert len(files(tmp_path)) == 3
    assert (await run(imagen_sandbox, rows, tmp_path)).statuses == ["skipped"]
    assert imagen_sandbox.requests == 2
    assert place(tmp_path, 0).name == "fox-0~2.png"
    assert errors(tmp_path) == []


async def _redoing(*arguments: Any, **options: Any) -> object:
    return await run(*arguments, redo_damaged=True, **options)


@pytest.mark.parametrize("n", [2, 4])
async def test_filtered_images_are_not_requested_with_the_damaged_ones(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, n: int
) -> None:
    short = await imagen_sandbox_factory(faults={"short": 1.0})
    rows = [ImageRequest(FOX, n=n, id="fox")]
    assert (await run(short, rows, tmp_path)).statuses == ["partial"]
    there = [line["index"] for line in metadata(tmp_path)]
    alter(place(tmp_path, there[0]))
    works = await imagen_sandbox_factory()
    again = await run(works, rows, tmp_path, redo_damaged=True)
    assert again.statuses == ["partial"]
    assert [entry.n for entry in works.ledger] == [1]
    assert sorted(line["index"] for line in metadata(tmp_path)) == there
    assert [line["error"] for line in errors(tmp_path)] == ["partial"]
    assert (await run(works, rows, tmp_path, redo_damaged=True)).statuses == ["partial"]
    assert works.requests == 1


async def test_damaged_images_of_a_job_that_broke_off_are_requested_with_the_missing_ones(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    broken = await imagen_sandbox_factory(faults={"corrupt-base64": 1.0}, faults_per_body=1)
    rows = [ImageRequest(FOX, n=3, id="fox")]
    assert (await run(broken, rows, tmp_path, asking={"attempts": 1})).statuses == ["partial"]
    alter(place(tmp_path, 0))
    works = await imagen_sandbox_factory()
    again = await run(works, rows, tmp_path, redo_damaged=True)
    assert again.statuses == ["succeeded"]
    assert [entry.n for entry in works.ledger] == [2]


async def test_a_file_that_cannot_be_checked_stops_the_run_before_anything_is_sent(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = numbered(3)
    await run(imagen_sandbox, rows, tmp_path)

    def refuse(*_: object) -> bytes:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as refusing:
        refusing.setattr(os, "read", refuse)
        with pytest.raises(StoreError, match="Permission denied"):
            await run(imagen_sandbox, rows, tmp_path, redo_damaged=True)
    assert read_status(tmp_path / ".imagen").jobs["succeeded"] == 3
    assert (await run(imagen_sandbox, rows, tmp_path)).statuses == ["skipped"] * 3


async def test_the_folder_is_free_after_a_redo_that_was_refused(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(imagen_sandbox, [FOX], tmp_path)
    replace_step(monkeypatch, transitions.withdraw, _refused)
    with pytest.raises(ImagenError, match="no"):
        await run(imagen_sandbox, [FOX], tmp_path, redo_damaged=True)
    assert (await run(imagen_sandbox, [FOX], tmp_path)).statuses == ["skipped"]


async def _refused(*_: Any) -> None:
    raise ImagenError("no")
