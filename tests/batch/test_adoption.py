from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import ImageRequest
from imagen_async.batch.journal import read_status, transitions
from imagen_async.exceptions import LimitReachedError
from imagen_async.stores.publisher import Publisher
from tests.batch.journals import Step, replace_step
from tests.batch.running import FOX, OWL, caught, errors, files, metadata, prompts, run, strays

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


class CrashError(Exception):
    """What a test's crash looks like from inside."""


async def crash(
    monkeypatch: pytest.MonkeyPatch,
    gateway: SandboxGateway,
    rows: Any,
    folder: Path,
    *,
    commits: int | None = None,
    asking: Mapping[str, Any] | None = None,
) -> None:
    """Run until images are committed, and end without recording it, like a killed process.

    Args:
        monkeypatch: Replaces the steps of the journal.
        gateway: The sandbox.
        rows: The input.
        folder: The output folder.
        commits: How many images are committed; all, if it is None.
        asking: Options of the client.
    """
    real, kept = Publisher.publish, 0

    def publish(self: Publisher, temporary: str, stem: str, ending: str) -> str:
        nonlocal kept
        if commits is not None and kept >= commits:
            raise CrashError
        kept += 1
        return real(self, temporary, stem, ending)

    async def dead(*_: Any, **__: Any) -> None:
        raise CrashError

    with monkeypatch.context() as crashing:
        crashing.setattr(Publisher, "publish", publish)
        replace_step(crashing, transitions.done, dead)
        replace_step(crashing, transitions.doubt, dead)
        with pytest.raises(CrashError):
            await run(gateway, rows, folder, asking=asking)


async def test_a_job_killed_before_its_top_up_is_resumed(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gateway = await imagen_sandbox_factory(faults={"short": 1.0}, faults_per_body=1)

    async def answered(record: Step) -> None:
        await record()
        raise CrashError

    rows = [ImageRequest(FOX, n=4, id="fox")]
    with monkeypatch.context() as patched:
        replace_step(patched, transitions.answered, answered)
        await crash(monkeypatch, gateway, rows, tmp_path, asking={"top_up": 1})
    there = files(tmp_path)
    assert there
    works = await imagen_sandbox_factory()
    assert (await run(works, rows, tmp_path)).statuses == ["succeeded"]
    assert there < files(tmp_path)
    assert [entry.n for entry in works.ledger] == [4 - len(there)]
    assert errors(tmp_path) == []


async def test_with_fail_found_images_are_adopted_and_the_others_stay_in_doubt(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ImageRequest(FOX, n=4, id="fox")]
    await crash(monkeypatch, imagen_sandbox, rows, tmp_path, commits=2)
    fail: dict[str, Any] = {"asking": {"on_ambiguous": "fail"}}
    done = await run(imagen_sandbox, rows, tmp_path, **fail)
    assert (done.statuses, len(done.outcomes[0].images), done.summary.attempts) == (["partial"], 2, 0)
    [line] = errors(tmp_path)
    assert (line["status"], [doubt["images"] for doubt in line["doubts"]]) == ("partial", [2])
    assert imagen_sandbox.requests == 1
    done = await run(imagen_sandbox, rows, tmp_path, retry_failed=True, **fail)
    assert (done.statuses, len(metadata(tmp_path))) == (["succeeded"], 4)
    assert [entry.n for entry in imagen_sandbox.ledger] == [4, 2]
    assert len({entry.idempotency_key for entry in imagen_sandbox.ledger}) == 2


async def test_a_complete_file_without_a_record_is_adopted_and_not_bought_again(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ImageRequest(FOX, n=3, id="fox"), ImageRequest(OWL, output_format="jpeg")]
    await crash(monkeypatch, imagen_sandbox, rows, tmp_path)
    assert metadata(tmp_path) == []
    there = files(tmp_path)
    bought = imagen_sandbox.requests
    done = await run(imagen_sandbox, rows, tmp_path)
    assert there <= files(tmp_path)
    assert imagen_sandbox.ledger.billed_images == 4
    assert imagen_sandbox.requests == 2
    assert done.statuses.count("skipped") == bought
    assert done.summary.ok
    assert {outcome.images[0].path for outcome in done.outcomes if outcome.status == "skipped"} <= {
        str(tmp_path / name) for name in there
    }
    assert prompts(tmp_path) == sorted([FOX] * 3 + [OWL])
    told = {(line["prompt"], line["index"]): line for line in metadata(tmp_path)}
    assert (told[OWL, 0]["format"], told[FOX, 0]["width"], told[FOX, 2]["id"]) == ("jpeg", 16, "fox")
    # All billed images have been found: no request is in doubt.
    assert errors(tmp_path) == []
    assert read_status(tmp_path / ".imagen").doubts == 0
    assert (await run(imagen_sandbox, rows, tmp_path)).summary.skipped == 2


@pytest.mark.parametrize("job_id", ["fox", None])
async def test_only_missing_images_are_bought(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job_id: str | None
) -> None:
    rows = [ImageRequest(FOX, n=4, id=job_id)]
    await crash(monkeypatch, imagen_sandbox, rows, tmp_path, commits=3)
    assert len(files(tmp_path)) == 3
    done = await run(imagen_sandbox, rows, tmp_path)
    assert done.statuses == ["succeeded"]
    assert [image.index for image in done.outcomes[0].images] == [0, 1, 2, 3]
    assert done.outcomes[0].request == rows[0]
    assert done.summary.images == 1
    assert [entry.n for entry in imagen_sandbox.ledger] == [4, 1]
    told = sorted(metadata(tmp_path), key=lambda line: line["index"])
    assert [line["index"] for line in told] == [0, 1, 2, 3]
    assert [line["request_id"] is None for line in told] == [True, True, True, False]
    assert prompts(tmp_path) == [FOX] * 4
    # Three of the four images of the interrupted request have been found.
    [line] = errors(tmp_path)
    assert (line["status"], [(doubt["images"], doubt["usd"]) for doubt in line["doubts"]]) == ("in_doubt", [(1, 0.04)])


async def test_found_images_are_recorded_before_the_others_are_requested(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that a cap counts each of them once, however this run ends."""
    rows = [ImageRequest(FOX, n=4, id="fox")]
    await crash(monkeypatch, imagen_sandbox, rows, tmp_path, commits=3)
    stopped = await caught(imagen_sandbox, rows, tmp_path, max_images=4)
    assert isinstance(stopped.error, LimitReachedError)
    told = read_status(tmp_path / ".imagen")
    assert (told.images, told.doubts, told.doubtful_images, told.doubtful_usd) == (3, 1, 1, 0.04)
    assert len(metadata(tmp_path)) == 3
    assert (await run(imagen_sandbox, rows, tmp_path, max_images=5)).statuses == ["succeeded"]
    assert imagen_sandbox.ledger.billed_images == 5


async def test_an_incomplete_file_is_not_adopted(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [ImageRequest(FOX, n=2, id="fox")]
    await crash(monkeypatch, imagen_sandbox, rows, tmp_path)
    [second] = [tmp_path / name for name in files(tmp_path) if name.endswith("fox-1.png")]
    second.write_bytes(second.read_bytes()[:-4])
    await run(imagen_sandbox, rows, tmp_path)
    told = {line["index"]: line["file_name"].split("/")[2] for line in metadata(tmp_path)}
    assert told == {0: "fox-0.png", 1: "fox-1~2.png"}
    assert second.exists()  # existing files are never overwritten


@pytest.mark.parametrize(
    ("fault", "error"), [("400-blocked", "RejectedError"), ("504", "OverloadedError"), ("filtered", None)]
)
async def test_found_images_are_kept_even_if_the_others_fail(
    imagen_sandbox_factory: SandboxFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fault: str,
    error: str | None,
) -> None:
    works = await imagen_sandbox_factory()
    rows = [OWL, ImageRequest(FOX, n=4, id="fox")]
    await run(works, rows[:1], tmp_path)
    await crash(monkeypatch, works, rows[1:], tmp_path, commits=2)
    broken = await imagen_sandbox_factory(faults={fault: 1.0}, faults_per_body=1)
    first = await run(broken, rows[1:], tmp_path, asking={"attempts": 2})
    assert first.statuses == ["partial"]
    assert [line["error"] for line in errors(tmp_path)] == [error or "partial"]
    assert [line["index"] for line in metadata(tmp_path)] == [0, 0, 1]
    # The row has another line now; the records of its images do not change.
    again = await run(broken, rows, tmp_path, retry_failed=True, ordered=True, asking={"attempts": 3})
    if error is None:
        assert again.statuses == ["skipped", "partial"]
        return
    assert again.statuses == ["skipped", "succeeded"]
    assert [image.index for image in again.outcomes[1].images] == [0, 1, 2, 3]
    assert [entry.n for entry in broken.ledger.for_prompt(FOX)] == [2, 2]
    told = [line for line in metadata(tmp_path) if line["id"] == "fox"]
    assert [(line["index"], line["line"]) for line in told] == [(0, 1), (1, 1), (2, 2), (3, 2)]
    assert prompts(tmp_path) == sorted([FOX] * 4 + [OWL])


async def test_files_of_jobs_without_an_intent_are_not_adopted(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    await run(imagen_sandbox, [ImageRequest(FOX, id="fox")], tmp_path / "first")
    (tmp_path / "second").mkdir()
    (tmp_path / "first" / "images").rename(tmp_path / "second" / "images")
    await run(imagen_sandbox, [ImageRequest(FOX, id="fox")], tmp_path / "second")
    assert imagen_sandbox.requests == 2
    assert sorted(name.split("/")[2] for name in files(tmp_path / "second")) == ["fox-0.png", "fox-0~2.png"]


async def test_left_over_temporary_files_are_swept(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    temporary = tmp_path / ".imagen" / "tmp"
    temporary.mkdir(parents=True)
    (temporary / "imagen-0123456789ab-7.partial").write_bytes(b"half")
    (temporary / "mine.txt").write_bytes(b"keep")
    await run(imagen_sandbox, [FOX], tmp_path)
    assert strays(tmp_path) == ["mine.txt"]
