from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagen_async import ImageRequest
from tests.batch.running import FOX, OWL, WHALE, errors, files, images, metadata, numbered, prompts, run, strays

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


async def test_a_finished_batch_sends_nothing(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    first = await run(imagen_sandbox, numbered(12), tmp_path)
    before = {name: (tmp_path / name).read_bytes() for name in ("metadata.jsonl", *files(tmp_path))}
    again = await run(imagen_sandbox, numbered(12), tmp_path)
    assert first.summary.images == 12
    assert again.statuses == ["skipped"] * 12
    assert again.summary.ok
    assert (again.summary.images, again.summary.attempts, again.summary.cost_usd) == (0, 0, 0)
    assert imagen_sandbox.requests == 12
    assert {name: (tmp_path / name).read_bytes() for name in ("metadata.jsonl", *files(tmp_path))} == before


async def test_input_may_be_reordered_appended_and_cut(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    rows = numbered(8)
    await run(imagen_sandbox, rows[:5], tmp_path)
    again = await run(imagen_sandbox, [*rows[::-1]], tmp_path, ordered=True)
    assert again.statuses == ["succeeded"] * 3 + ["skipped"] * 5
    assert (await run(imagen_sandbox, rows[2:4], tmp_path)).statuses == ["skipped"] * 2
    assert imagen_sandbox.requests == 8
    assert prompts(tmp_path) == sorted(row.prompt for row in rows)


@pytest.mark.parametrize(
    "changed",
    [
        ImageRequest(OWL, id="1"),
        ImageRequest(FOX, id="2"),
        ImageRequest(FOX, id="1", n=2),
        ImageRequest(FOX, id="1", aspect_ratio="3:4"),
        ImageRequest(FOX, id="1", model="imagen-3.0-generate-002"),
        ImageRequest(FOX, id="1", extra={"seed": 7}),
    ],
)
async def test_a_changed_row_is_a_new_job(
    imagen_sandbox: SandboxGateway, tmp_path: Path, changed: ImageRequest
) -> None:
    await run(imagen_sandbox, [ImageRequest(FOX, id="1")], tmp_path)
    assert (await run(imagen_sandbox, [changed], tmp_path)).statuses == ["succeeded"]
    assert len(metadata(tmp_path)) == 1 + changed.n
    images(tmp_path)


async def test_a_row_with_a_larger_n_buys_only_the_additional_parts(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    await run(imagen_sandbox, [ImageRequest(FOX, n=4, id="fox")], tmp_path)
    await run(imagen_sandbox, [ImageRequest(FOX, n=8, id="fox")], tmp_path)
    assert imagen_sandbox.ledger.billed_images == 8
    assert sorted(line["index"] for line in metadata(tmp_path)) == list(range(8))


async def test_a_failed_job_is_not_sent_again_without_retry_failed(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    blocked = await imagen_sandbox_factory(faults={"400-blocked": 1.0})
    first = await run(blocked, [FOX, OWL], tmp_path)
    assert first.statuses == ["failed", "failed"]
    assert not first.summary.ok
    assert {type(outcome.error).__name__ for outcome in first.outcomes} == {"RejectedError"}
    works = await imagen_sandbox_factory()
    left = await run(works, [FOX, OWL, WHALE], tmp_path, ordered=True)
    assert left.statuses == ["failed", "failed", "succeeded"]
    assert not left.summary.ok
    assert "retry_failed" in str(left.outcomes[0].error)
    assert works.requests == 1
    assert [line["error"] for line in errors(tmp_path)] == ["RejectedError"] * 2
    retried = await run(works, [FOX, OWL, WHALE], tmp_path, ordered=True, retry_failed=True)
    assert retried.statuses == ["succeeded", "succeeded", "skipped"]
    assert retried.summary.ok
    assert errors(tmp_path) == []
    assert not (tmp_path / "errors.jsonl").exists()
    assert prompts(tmp_path) == sorted([FOX, OWL, WHALE])


async def test_a_job_in_doubt_is_sent_again_only_with_retry_failed(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    lost = await imagen_sandbox_factory(faults={"504": 1.0})
    first = await run(lost, [ImageRequest(FOX, n=2)], tmp_path, asking={"attempts": 3})
    assert first.statuses == ["in_doubt"]
    assert (first.summary.doubts, first.summary.doubtful_usd, first.summary.in_doubt) == (3, 0.24, 1)
    assert lost.ledger.billed_images == 6
    [line] = errors(tmp_path)
    assert (line["status"], line["error"], line["http_status"], line["n"]) == ("in_doubt", "OverloadedError", 504, 2)
    assert [doubt["attempt"] for doubt in line["doubts"]] == [1, 2, 3]
    works = await imagen_sandbox_factory()
    assert (await run(works, [ImageRequest(FOX, n=2)], tmp_path)).statuses == ["in_doubt"]
    assert works.requests == 0
    again = await run(works, [ImageRequest(FOX, n=2)], tmp_path, retry_failed=True)
    assert again.statuses == ["succeeded"]
    assert works.requests == 1
    # The money is not forgotten with the job's success.
    [line] = errors(tmp_path)
    assert (line["status"], len(line["doubts"])) == ("in_doubt", 3)


@pytest.mark.parametrize("retry_failed", [True, False])
@pytest.mark.parametrize(("fault", "status", "kept"), [("short", "partial", 1), ("filtered", "filtered", 0)])
async def test_filtered_images_are_not_requested_again(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, fault: str, status: str, kept: int, *, retry_failed: bool
) -> None:
    gateway = await imagen_sandbox_factory(faults={fault: 1.0})
    first = await run(gateway, [ImageRequest(FOX, n=2)], tmp_path)
    assert first.statuses == [status]
    assert not first.summary.ok
    assert len(metadata(tmp_path)) == len(images(tmp_path)) == first.summary.images == kept
    assert [line["status"] for line in errors(tmp_path)] == [status]
    assert errors(tmp_path)[0]["images"] == kept
    again = await run(gateway, [ImageRequest(FOX, n=2)], tmp_path, retry_failed=retry_failed)
    assert again.statuses == [status]
    assert not again.summary.ok
    assert again.summary.images == 0
    assert gateway.requests == 1


@pytest.mark.parametrize(
    ("fault", "whole"),
    [("corrupt-base64", 2), ("not-an-image", 2), ("no-iend", 2), ("truncate-close", 1), ("html-in-200", 0)],
)
async def test_complete_images_of_a_broken_response_are_kept_and_the_others_need_retry_failed(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, fault: str, whole: int
) -> None:
    gateway = await imagen_sandbox_factory(faults={fault: 1.0}, faults_per_body=1)
    rows = [ImageRequest(FOX, n=3)]
    failed = await run(gateway, rows, tmp_path, asking={"attempts": 1})
    assert failed.statuses == ["partial" if whole else "in_doubt"]
    assert (failed.summary.images, failed.summary.doubts) == (whole, 1)
    assert failed.summary.doubtful_usd == pytest.approx(0.04 * (3 - whole))
    assert [line["index"] for line in metadata(tmp_path)] == list(range(whole))
    assert strays(tmp_path) == []
    assert (await run(gateway, rows, tmp_path)).statuses == failed.statuses
    assert gateway.requests == 1
    done = await run(gateway, rows, tmp_path, retry_failed=True, asking={"attempts": 2})
    assert done.statuses == ["succeeded"]
    assert prompts(tmp_path) == [FOX] * 3
    assert [entry.n for entry in gateway.ledger][1] == 3 - whole


async def test_the_file_is_named_after_its_bytes(imagen_sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    gateway = await imagen_sandbox_factory(faults={"wrong-format": 1.0})
    await run(gateway, [ImageRequest(FOX, id="fox")], tmp_path)
    [line] = metadata(tmp_path)
    assert line["file_name"].endswith("/fox-0.jpg")
    assert (line["output_format"], line["format"]) == ("png", "jpeg")
    assert "jpeg where png" in line["notes"]
