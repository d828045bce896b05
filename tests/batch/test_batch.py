from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import ImageRequest
from imagen_async.batch import Batch, Row, open_source
from imagen_async.exceptions import (
    ConfigurationError,
    InvalidInputError,
)
from tests.batch.running import (
    FOX,
    OWL,
    WHALE,
    caught,
    client,
    errors,
    files,
    images,
    lines,
    metadata,
    numbered,
    prompts,
    run,
    strays,
)

if TYPE_CHECKING:
    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


async def test_every_row_gets_its_own_image(imagen_sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    gateway = await imagen_sandbox_factory(faults={"500": 0.1, "429": 0.1, "truncate": 0.05, "odd-wrapping": 0.3})
    requests = numbered(60)
    done = await run(gateway, requests, tmp_path, asking={"slots": 8, "attempts": 5})
    assert done.statuses == ["succeeded"] * 60
    assert prompts(tmp_path) == sorted(request.prompt for request in requests)
    assert done.summary.ok
    assert (done.summary.jobs, done.summary.images) == (60, 60)
    assert done.summary.bytes == sum((tmp_path / name).stat().st_size for name in files(tmp_path))
    assert done.summary.attempts == gateway.requests > 60
    assert strays(tmp_path) == []


async def test_a_file_of_prompts_becomes_a_folder_of_images(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text(f"id,Prompt,n,aspect_ratio,mood\na,{FOX},2,16:9,calm\nb,{OWL},,,\n")
    done = await run(imagen_sandbox, open_source(table), tmp_path / "out")
    assert done.statuses == ["succeeded", "succeeded"]
    told = {(line["id"], line["index"]): line for line in metadata(tmp_path / "out")}
    assert set(told) == {("a", 0), ("a", 1), ("b", 0)}
    assert {line["file_name"].split("/")[2] for line in told.values()} == {"a-0.png", "a-1.png", "b-0.png"}
    assert [told[key]["mood"] for key in sorted(told)] == ["calm", "calm", ""]
    assert (told["a", 1]["aspect_ratio"], told["a", 1]["width"], told["a", 1]["height"]) == ("16:9", 22, 12)
    assert prompts(tmp_path / "out") == sorted([FOX, FOX, OWL])


@pytest.mark.parametrize("job_id", ["fox", None])
async def test_a_row_of_more_than_four_images_is_split_and_numbered_through(
    imagen_sandbox: SandboxGateway, tmp_path: Path, job_id: str | None
) -> None:
    done = await run(imagen_sandbox, [ImageRequest(FOX, n=10, id=job_id)], tmp_path)
    assert sorted(outcome.request.n for outcome in done.outcomes) == [2, 4, 4]
    assert sorted(entry.n or 0 for entry in imagen_sandbox.ledger) == [2, 4, 4]
    told = sorted(metadata(tmp_path), key=lambda line: line["index"])
    assert [line["index"] for line in told] == list(range(10))
    assert {line["id"] for line in told} == {job_id}
    assert [index for _, index in sorted(images(tmp_path).values())] == [0, 0, 0, 1, 1, 1, 2, 2, 3, 3]
    if job_id:
        names = [f"{job_id}-{index}" for index in range(4)] + [f"{job_id}_p2-{index}" for index in range(4, 8)]
        names += [f"{job_id}_p3-{index}" for index in (8, 9)]
        assert [line["file_name"].split("/")[2] for line in told] == [f"{name}.png" for name in names]
    else:
        assert all(line["file_name"].endswith(f"-{line['index']}.png") for line in told)


async def test_equal_rows_are_separate_jobs(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    first = await run(imagen_sandbox, [FOX, OWL, FOX, FOX], tmp_path)
    assert first.statuses == ["succeeded"] * 4
    assert prompts(tmp_path) == sorted([FOX, FOX, FOX, OWL])
    again = await run(imagen_sandbox, [FOX, FOX, FOX, OWL], tmp_path)
    assert again.statuses == ["skipped"] * 4
    one_more = await run(imagen_sandbox, [FOX] * 4, tmp_path)
    assert sorted(one_more.statuses) == ["skipped", "skipped", "skipped", "succeeded"]
    assert imagen_sandbox.requests == 5


async def test_one_id_for_two_prompts_gives_two_files(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    rows = [ImageRequest(FOX, id="same"), ImageRequest(OWL, id="same"), ImageRequest(WHALE, id="SAME")]
    await run(imagen_sandbox, rows, tmp_path)
    assert prompts(tmp_path) == sorted([FOX, OWL, WHALE])
    assert sorted(line["id"] for line in metadata(tmp_path)) == ["SAME", "same", "same"]
    assert (await run(imagen_sandbox, rows[::-1], tmp_path)).statuses == ["skipped"] * 3


async def test_a_row_whose_id_is_that_of_a_part_gives_two_files(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    await run(imagen_sandbox, [ImageRequest(FOX, n=8, id="a"), ImageRequest(OWL, n=4, id="a_p2")], tmp_path)
    assert prompts(tmp_path) == sorted([FOX] * 8 + [OWL] * 4)


@pytest.mark.parametrize("ordered", [True, False])
async def test_outcomes_come_in_the_order_of_the_input_if_asked(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, *, ordered: bool
) -> None:
    requests, first = numbered(20), await imagen_sandbox_factory()
    await run(first, requests[1:], tmp_path)
    # All rows but the first are there; that one fails once, and its backoff ends when the test says so.
    gateway = await imagen_sandbox_factory(faults={"500": 1.0}, faults_per_body=1)
    backing_off, go_on = asyncio.Event(), asyncio.Event()

    async def sleep(_: float) -> None:
        backing_off.set()
        await go_on.wait()

    seen: list[str] = []
    async with (
        client(gateway, slots=16, sleep=sleep) as asker,
        Batch(asker, requests, output=tmp_path, ordered=ordered, fsync=False) as batch,
    ):
        await backing_off.wait()
        if not ordered:
            seen += [(await anext(batch)).request.prompt for _ in range(19)]
        go_on.set()
        seen += [outcome.request.prompt async for outcome in batch]
    expected = [request.prompt for request in requests]
    assert seen == (expected if ordered else expected[1:] + expected[:1])


async def test_files_and_journal_are_synced_by_default(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))  # noqa: PTH115 - a text will do
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    await run(imagen_sandbox, [FOX], tmp_path / "out", fsync=True)
    [name] = files(tmp_path / "out")
    assert str((tmp_path / "out" / name).parent) in synced
    assert any("partial" in path for path in synced)
    assert str(tmp_path / "out" / "metadata.jsonl") in synced
    synced.clear()
    await run(imagen_sandbox, [FOX], tmp_path / "quick", fsync=False)
    assert synced == []


async def test_the_output_may_be_the_current_folder(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await run(imagen_sandbox, [FOX], ".")  # type: ignore[arg-type] # a text will do
    assert prompts(tmp_path) == [FOX]


NASTY = [
    "=cmd|' /C calc'!A0",
    "+1+1",
    "@SUM(A1)",
    "\x1b[31mred\x1b[0m fox",
    "two\nlines\r\nof fox",
    'quoted "fox", and \\ more',
    "right\u202eto left",
    "line\u2028separator \x85 and \x7f",
    "<script>alert(1)</script>",
    "../../../etc/passwd",
    "null\x00byte",
]


async def test_no_prompt_or_id_breaks_a_text_file(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    carried: list[dict[str, Any]] = [{text: text} for text in NASTY]
    rows = [Row(ImageRequest(text, id=text), 7, each) for text, each in zip(NASTY, carried, strict=True)]
    rows.append(Row(ImageRequest(FOX, id="lone \ud800 surrogate"), line=8))
    done = await run(imagen_sandbox, rows, tmp_path)
    assert done.statuses == ["succeeded"] * len(rows)
    assert {prompt for prompt, _ in images(tmp_path).values()} == {*NASTY, FOX}
    told = {line["prompt"]: line for line in metadata(tmp_path)}
    assert [told[text]["id"] for text in NASTY] == NASTY
    assert [told[text][text] for text in NASTY] == NASTY
    assert told[FOX]["id"] == "lone \ufffd surrogate"
    everything = (tmp_path / "metadata.jsonl").read_bytes()
    assert not any((byte < 0x20 and byte != 0x0A) or byte == 0x7F for byte in everything)
    assert all(bad not in everything.decode() for bad in "\x85\u2028\u202e")
    assert all(name.isascii() and ".." not in name and name.count("/") == 2 for name in files(tmp_path))
    assert (await run(imagen_sandbox, rows, tmp_path)).statuses == ["skipped"] * len(rows)


async def test_a_hostile_prompt_is_inert_in_errors_jsonl(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory(faults={"400-blocked": 1.0})
    rows = [ImageRequest(text, id=text) for text in NASTY]
    await run(gateway, rows, tmp_path)
    assert [line["prompt"] for line in errors(tmp_path)] == NASTY
    assert not any(byte < 0x20 and byte != 0x0A for byte in (tmp_path / "errors.jsonl").read_bytes())


async def test_a_prompt_that_cannot_be_encoded_is_refused_before_anything_is_sent(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    stopped = await caught(imagen_sandbox, ["lone \ud800 surrogate"], tmp_path)
    assert isinstance(stopped.error, InvalidInputError)
    assert imagen_sandbox.requests == 0
    listed = await run(imagen_sandbox, ["lone \ud800 surrogate"], tmp_path, skip_invalid=True)
    assert listed.summary.invalid == 1
    assert "lone surrogate" in lines(tmp_path / "invalid.jsonl")[0]["problems"][0]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"max_images": 2.5}, r"max_images must be a whole number from 0, or None, not 2\.5"),
        ({"max_images": -1}, "max_images must be a whole number from 0, or None, not -1"),
        ({"budget": "5"}, "budget must be a finite number from 0, or None, not '5'"),
        ({"budget": float("nan")}, "budget must be a finite number from 0, or None, not nan"),
        ({"min_free": True}, "min_free must be a whole number from 0, not True"),
        ({"requests": "prompts.txt"}, "requests must be an iterable; for a file use open_source"),
        ({"requests": Path("prompts.txt")}, "requests must be an iterable; for a file use open_source"),
        ({"requests": ImageRequest("a fox")}, "requests must be an iterable; .* for one prompt a list"),
    ],
)
async def test_settings_that_cannot_be_meant_are_refused_before_anything_is_made(
    options: dict[str, Any], problem: str, imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    async with client(imagen_sandbox) as asker:
        with pytest.raises(ConfigurationError, match=problem):
            Batch(asker, **{"requests": [FOX], "output": tmp_path / "out", **options})
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names are enough
