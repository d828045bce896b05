from __future__ import annotations

import asyncio
import gzip
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import ImageRequest
from imagen_async.batch import Batch, Progress, Row, Source, open_source
from imagen_async.batch.intake import Intake
from imagen_async.batch.journal import Journal
from imagen_async.batch.text_files import InvalidFile
from imagen_async.catalog import CATALOG, Model
from imagen_async.exceptions import ConfigurationError, InvalidInputError, InvalidRequestError, StoreError
from tests.batch.running import FOX, OWL, WHALE, caught, client, errors, files, lines, metadata, numbered, prompts, run
from tests.clock import settle, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from imagen_async.outcome import Outcome
    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory

BAD_FILE = f"""\
{{"prompt": "{FOX}"}}
{{"prompt": "", "n": 0}}
{{"prompt": "{OWL}"}}
not JSON
{{"prompt": "{WHALE}"}}
"""


def readers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "imagen-rows"]


@pytest.fixture
def bad_file(tmp_path: Path) -> Path:
    path = tmp_path / "prompts.jsonl"
    path.write_text(BAD_FILE)
    return path


@pytest.fixture
def bad_pipe() -> Iterator[Source]:
    reading, writing = os.pipe()
    os.write(writing, BAD_FILE.encode())
    os.close(writing)
    yield open_source(f"/dev/fd/{reading}", format="jsonl")
    os.close(reading)


# --- rows that are not valid ---


async def test_a_file_with_a_bad_row_sends_nothing(
    imagen_sandbox: SandboxGateway, bad_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInputError) as refused:
        await run(imagen_sandbox, open_source(bad_file), tmp_path / "out")
    assert [line for line, _ in refused.value.problems] == [2, 4]
    assert refused.value.problems[0][1] == ("prompt is empty", "n must be 1 to 10000, not 0")
    assert imagen_sandbox.requests == 0
    assert not (tmp_path / "out").exists()


async def test_the_size_of_a_file_is_known_before_it_is_sent(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"prompt": "{FOX}", "n": 9}}\n{{"prompt": "{OWL}"}}\n')
    async with (
        client(imagen_sandbox) as asker,
        Batch(asker, open_source(path), output=tmp_path / "out", fsync=False) as batch,
    ):
        assert batch.report is not None
        assert (batch.progress.total, batch.report.images) == (4, 10)


async def test_a_pipe_stops_at_its_first_bad_row_after_the_rows_before_it(
    imagen_sandbox: SandboxGateway, bad_pipe: Source, tmp_path: Path
) -> None:
    stopped = await caught(imagen_sandbox, bad_pipe, tmp_path)
    assert isinstance(stopped.error, InvalidInputError)
    assert [line for line, _ in stopped.error.problems] == [2]
    assert stopped.statuses == ["succeeded"]
    assert prompts(tmp_path) == [FOX]
    assert imagen_sandbox.requests == 1
    assert (await run(imagen_sandbox, [FOX, OWL], tmp_path, ordered=True)).statuses == ["skipped", "succeeded"]


async def test_an_iterable_stops_at_its_first_bad_item_after_the_items_before_it(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    rows: list[Any] = [FOX, OWL, ImageRequest("", n=0), WHALE]
    stopped = await caught(imagen_sandbox, rows, tmp_path)
    assert isinstance(stopped.error, InvalidInputError)
    assert stopped.error.problems == ((3, ("prompt is empty", "n must be 1 to 10000, not 0")),)
    assert "the requests" in str(stopped.error)
    assert prompts(tmp_path) == sorted([FOX, OWL])
    stopped = await caught(imagen_sandbox, [FOX, 7], tmp_path)
    assert "not int" in str(stopped.error)


@pytest.mark.parametrize("kind", ["file", "pipe", "list"])
async def test_bad_rows_can_be_listed_and_skipped(
    imagen_sandbox: SandboxGateway, bad_file: Path, bad_pipe: Source, tmp_path: Path, kind: str
) -> None:
    requests: Any = {
        "file": open_source(bad_file),
        "pipe": bad_pipe,
        "list": [FOX, ImageRequest("", n=0), OWL, None, WHALE],
    }[kind]
    out = tmp_path / "out"
    done = await run(imagen_sandbox, requests, out, skip_invalid=True)
    assert done.statuses == ["succeeded"] * 3
    assert done.summary.invalid == 2
    assert not done.summary.ok
    assert prompts(out) == sorted([FOX, OWL, WHALE])
    listed = lines(out / "invalid.jsonl")
    assert [line["line"] for line in listed] == [2, 4]
    assert listed[0]["problems"] == ["prompt is empty", "n must be 1 to 10000, not 0"]
    # The list is of the last run.
    again = await run(imagen_sandbox, [FOX], out, skip_invalid=True)
    assert again.summary.ok
    assert not (out / "invalid.jsonl").exists()


async def test_an_invalid_jsonl_that_cannot_be_written_stops_the_batch(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "invalid.jsonl").mkdir()
    with pytest.raises(ConfigurationError, match=r"invalid\.jsonl is not a plain file"):
        await run(imagen_sandbox, [FOX], tmp_path, skip_invalid=True)
    monkeypatch.setattr("imagen_async.batch.batch.refuse_links", lambda _: None)  # as if it appeared after the check
    with pytest.raises(StoreError, match=r"invalid\.jsonl cannot be written"):
        await run(imagen_sandbox, [FOX], tmp_path, skip_invalid=True)
    monkeypatch.setattr(InvalidFile, "clear", lambda _: None)
    with pytest.raises(StoreError, match=r"invalid\.jsonl is not a plain file"):
        await run(imagen_sandbox, [FOX, ""], tmp_path, skip_invalid=True)
    assert errors(tmp_path) == []


async def test_a_row_made_by_the_caller_is_checked_as_well(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    """A `Row` of n = 0 would come to no job at all."""
    stopped = await caught(imagen_sandbox, [Row(ImageRequest(FOX, n=0), line=5)], tmp_path)
    assert isinstance(stopped.error, InvalidInputError)
    assert stopped.error.problems == ((5, ("n must be 1 to 10000, not 0",)),)


async def test_a_source_that_knows_other_models_than_the_client_fails_job_by_job(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text(f'{{"prompt": "{FOX}", "style": "sketch", "model": "mine"}}\n{{"prompt": "{OWL}"}}\n')
    strict = CATALOG.extended(Model(id="mine"))  # takes no style; to the source, the model is unknown
    done = await run(imagen_sandbox, open_source(path), tmp_path / "out", ordered=True, asking={"catalog": strict})
    assert done.statuses == ["failed", "succeeded"]
    assert isinstance(done.outcomes[0].error, InvalidRequestError)
    assert imagen_sandbox.requests == 1
    assert [line["error"] for line in errors(tmp_path / "out")] == ["InvalidRequestError"]


async def test_a_file_that_changes_between_the_passes_stops_the_batch(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "prompts.txt"
    path.write_text(f"{FOX}\n")
    real = Source.check

    def check(self: Source, **options: Any) -> Any:
        report = real(self, **options)
        path.write_text(f"{FOX}\n{OWL}\n")
        return report

    monkeypatch.setattr(Source, "check", check)
    stopped = await caught(imagen_sandbox, open_source(path), tmp_path / "out")
    assert isinstance(stopped.error, ConfigurationError)
    assert "was changed" in str(stopped.error)
    assert imagen_sandbox.requests == 0


async def test_the_second_pass_reads_what_the_first_did(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt.gz"
    path.write_bytes(gzip.compress("\n".join(row.prompt for row in numbered(300)).encode()))
    async with client(imagen_sandbox, slots=8) as asker:
        async with Batch(asker, open_source(path), output=tmp_path / "out", fsync=False) as batch:
            assert batch.progress.total == 300
            first = [await anext(batch) for _ in range(3)]
        assert len(first) == 3
    await until(lambda: not readers())


# --- laziness ---


@pytest.mark.parametrize("kind", ["iterable", "async"])
async def test_an_endless_input_is_read_only_as_far_as_needed(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, kind: str
) -> None:
    gateway = await imagen_sandbox_factory()
    read = 0

    def rows() -> Iterator[str]:
        nonlocal read
        for number in range(1_000_000):
            read = number + 1
            yield f"{FOX} {number}"

    async def rows_to_wait_for() -> AsyncIterator[str]:
        for row in rows():
            await asyncio.sleep(0)
            yield row

    requests: Any = rows() if kind == "iterable" else rows_to_wait_for()
    async with client(gateway, slots=3) as asker, Batch(asker, requests, output=tmp_path, fsync=False) as batch:
        for taken in range(1, 41):
            await anext(batch)
            assert read <= taken + asker.window + 17
    assert len(files(tmp_path)) < 100


async def test_a_slow_consumer_slows_the_source(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    read = 0

    async def rows() -> AsyncIterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"{FOX} {read}"

    async with client(imagen_sandbox, slots=2) as asker, Batch(asker, rows(), output=tmp_path, fsync=False) as batch:
        await until(lambda: imagen_sandbox.requests >= asker.window)
        await settle()
        assert read <= asker.window + 1
        await anext(batch)


async def test_an_async_source_that_waits_does_not_block_the_jobs(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    more: asyncio.Queue[str | None] = asyncio.Queue()

    async def rows() -> AsyncIterator[str]:
        while (row := await more.get()) is not None:
            yield row

    async with client(imagen_sandbox) as asker, Batch(asker, rows(), output=tmp_path, fsync=False) as batch:
        for prompt in (FOX, OWL):
            await more.put(prompt)
            assert (await anext(batch)).request.prompt == prompt
        await more.put(None)
        with pytest.raises(StopAsyncIteration):
            await anext(batch)


async def test_an_async_source_is_closed_when_the_batch_is_left(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    closed: list[str] = []

    async def rows() -> AsyncIterator[str]:
        try:
            while True:
                yield FOX
        finally:
            await asyncio.sleep(0)
            closed.append("closed")

    async with client(imagen_sandbox) as asker, Batch(asker, rows(), output=tmp_path, fsync=False) as batch:
        await anext(batch)
    assert closed == ["closed"]


async def test_leaving_the_jobs_closes_their_source_immediately(tmp_path: Path) -> None:
    closed: list[str] = []

    async def rows() -> AsyncIterator[str]:
        try:
            while True:
                yield FOX
        finally:
            closed.append("closed")

    async with await Journal.open(tmp_path, fsync=False) as journal:
        tasks = Intake(rows(), catalog=CATALOG, journal=journal, progress=Progress(), invalid=None).tasks()
        assert (await anext(tasks)).part.request.prompt == FOX
        await tasks.aclose()
        assert closed == ["closed"]


@pytest.mark.parametrize("kind", ["iterable", "async"])
async def test_an_error_of_the_input_is_raised_after_the_rows_before_it(
    imagen_sandbox: SandboxGateway, tmp_path: Path, kind: str
) -> None:
    def rows() -> Iterator[str]:
        yield from (FOX, OWL)
        raise ZeroDivisionError

    async def async_rows() -> AsyncIterator[str]:
        for row in rows():
            yield row

    stopped = await caught(imagen_sandbox, rows() if kind == "iterable" else async_rows(), tmp_path)
    assert isinstance(stopped.error, ZeroDivisionError)
    assert prompts(tmp_path) == sorted([FOX, OWL])


@pytest.mark.parametrize("count", [0, 1, 15, 16, 17, 33])
async def test_every_item_of_an_iterable_is_a_job(imagen_sandbox: SandboxGateway, tmp_path: Path, count: int) -> None:
    def each(batch: Batch, _: Outcome) -> None:
        totals.append(batch.progress.total)

    totals: list[int | None] = []
    done = await run(imagen_sandbox, (row for row in numbered(count)), tmp_path, each=each)
    assert len(done.outcomes) == count
    assert sorted(line["line"] for line in metadata(tmp_path)) == list(range(1, count + 1))
    assert totals[-1:] == [count] * min(count, 1)


async def test_a_string_is_a_prompt_and_a_set_of_rows_may_mix_kinds(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    rows: list[Any] = [FOX, ImageRequest(OWL, n=2), Row(ImageRequest(WHALE), line=99, metadata={"mood": "calm"})]
    await run(imagen_sandbox, rows, tmp_path)
    told = {(line["prompt"], line["index"]): line for line in metadata(tmp_path)}
    assert {key: line["line"] for key, line in told.items()} == {(FOX, 0): 1, (OWL, 0): 2, (OWL, 1): 2, (WHALE, 0): 99}
    assert told[WHALE, 0]["mood"] == "calm"
