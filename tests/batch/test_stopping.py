from __future__ import annotations

import asyncio
import gc
import os
import sqlite3
import threading
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import ImageRequest
from imagen_async.batch import Batch, open_source
from imagen_async.batch.journal import read_status, transitions
from imagen_async.exceptions import (
    AuthenticationError,
    ConfigurationError,
    ImagenError,
    JournalError,
    JournalLockedError,
    ModelNotFoundError,
    StoreError,
)
from imagen_async.outcome import Outcome, Status
from imagen_async.sandbox import SANDBOX_KEY
from imagen_async.stores.local import LocalStore
from imagen_async.stores.publisher import Publisher
from tests.batch.journals import Step, replace_step
from tests.batch.running import (
    FOX,
    OWL,
    WHALE,
    Held,
    caught,
    client,
    errors,
    images,
    metadata,
    numbered,
    prompts,
    run,
    strays,
)
from tests.clock import settle, until

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory


async def test_a_drained_batch_finishes_requests_in_flight_and_can_be_resumed(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory()

    def each(batch: Batch, _: Outcome) -> None:
        batch.drain()

    first = await run(gateway, numbered(30), tmp_path, each=each, asking={"slots": 3})
    assert 1 <= len(first.outcomes) < 30
    assert set(first.statuses) == {"succeeded"}
    assert len(first.outcomes) == gateway.requests == len(metadata(tmp_path))
    assert errors(tmp_path) == []
    second = await run(gateway, numbered(30), tmp_path)
    assert second.statuses.count("skipped") == len(first.outcomes)
    assert second.summary.ok
    assert gateway.ledger.billed_images == 30
    assert prompts(tmp_path) == sorted(row.prompt for row in numbered(30))


async def test_after_a_drain_no_waiting_job_is_sent(imagen_sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    work = Held(2)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work)
    async with (
        client(gateway, slots=2) as asker,
        Batch(asker, numbered(30), output=tmp_path, fsync=False) as batch,
    ):
        await work.arrived.wait()
        batch.drain()
        batch.drain()
        work.let.set()
        assert [str(outcome.status) async for outcome in batch] == ["succeeded", "succeeded"]
    assert gateway.requests == 2


async def test_a_drain_does_not_wait_for_backoff(imagen_sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    gateway = await imagen_sandbox_factory(faults={"500": 1.0})
    backing_off = asyncio.Event()

    async def for_ever(_: float) -> None:
        backing_off.set()
        await asyncio.Event().wait()

    async with (
        client(gateway, slots=2, sleep=for_ever) as asker,
        Batch(asker, numbered(1), output=tmp_path, fsync=False) as batch,
    ):
        await backing_off.wait()
        batch.drain()
        assert [outcome async for outcome in batch] == []
    assert read_status(tmp_path / ".imagen").jobs["interrupted"] == 1
    assert [(line["status"], len(line["doubts"])) for line in errors(tmp_path)] == [("interrupted", 1)]
    async with (
        client(gateway, slots=2, sleep=for_ever) as asker,
        Batch(asker, numbered(3), output=tmp_path, fsync=False) as batch,
    ):
        backing_off.clear()
        batch.drain()  # before any request was sent, while jobs are looked up
        assert [outcome async for outcome in batch] == []


async def test_a_job_that_ends_during_a_drain_has_an_outcome(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    work = Held(1)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work, faults={"filtered": 1.0})
    async with (
        client(gateway, slots=2) as asker,
        Batch(asker, numbered(1), output=tmp_path, fsync=False) as batch,
    ):
        await work.arrived.wait()
        batch.drain()
        work.let.set()
        assert [str(outcome.status) async for outcome in batch] == ["filtered"]


async def test_a_job_that_fails_during_a_drain_is_not_sent_again(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    work = Held(1)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work, faults={"500": 1.0})
    async with (
        client(gateway, slots=2) as asker,
        Batch(asker, numbered(1), output=tmp_path, fsync=False) as batch,
    ):
        await work.arrived.wait()
        batch.drain()
        work.let.set()
        assert [outcome async for outcome in batch] == []
    assert gateway.requests == 1
    assert [(line["status"], len(line["doubts"])) for line in errors(tmp_path)] == [("interrupted", 1)]


async def test_a_cancelled_batch_can_be_resumed_and_lists_its_requests_in_doubt(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    work = Held(2, after=4)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work)
    rows = numbered(12)
    async with client(gateway, slots=2) as asker, Batch(asker, rows, output=tmp_path, fsync=False) as batch:
        assert [(await anext(batch)).status for _ in range(4)] == ["succeeded"] * 4
        await work.arrived.wait()
    done = read_status(tmp_path / ".imagen").jobs
    assert (done["succeeded"], done["interrupted"], done["intent"]) == (4, 2, 0)
    listed = errors(tmp_path)
    assert [line["status"] for line in listed] == ["interrupted"] * 2
    assert ["cancelled" in line["doubts"][0]["message"] for line in listed] == [True, True]
    assert strays(tmp_path) == []
    fresh = await imagen_sandbox_factory()
    rest = await run(fresh, rows, tmp_path)
    assert sorted(rest.statuses) == ["skipped"] * 4 + ["succeeded"] * 8
    assert prompts(tmp_path) == sorted(row.prompt for row in rows)


async def test_a_job_that_is_cancelled_before_it_is_sent_is_not_in_doubt(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = asyncio.Event()

    async def intent(record: Step) -> None:
        await record()
        recording.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as slow:
        replace_step(slow, transitions.intent, intent)
        async with (
            client(imagen_sandbox) as asker,
            Batch(asker, [FOX], output=tmp_path, fsync=False, max_images=1) as batch,
        ):
            await recording.wait()
    assert batch.summary.doubts == 0
    assert imagen_sandbox.requests == 0
    assert errors(tmp_path) == []
    assert sum(read_status(tmp_path / ".imagen").jobs.values()) == 0
    assert (await run(imagen_sandbox, [FOX], tmp_path, max_images=1)).statuses == ["succeeded"]


async def test_a_batch_settles_even_if_its_close_is_cancelled(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    work = Held(1, after=2)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work)
    leaving = asyncio.Event()

    async def leave() -> None:
        async with client(gateway, slots=1) as asker, Batch(asker, numbered(5), output=tmp_path, fsync=False) as batch:
            assert [(await anext(batch)).status for _ in range(2)] == ["succeeded"] * 2
            await work.arrived.wait()
            leaving.set()

    task = asyncio.create_task(leave())
    await leaving.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    jobs = read_status(tmp_path / ".imagen").jobs
    assert (jobs["succeeded"], jobs["interrupted"], jobs["intent"]) == (2, 1, 0)
    assert (len(metadata(tmp_path)), len(errors(tmp_path))) == (2, 1)


@pytest.mark.parametrize("method", ["done", "doubt", "never_sent"])
async def test_a_job_that_is_cancelled_while_its_end_is_recorded_keeps_that_end(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    fault = {"done": {}, "doubt": {"504": 1.0}, "never_sent": {"429": 1.0}}[method]
    gateway = await imagen_sandbox_factory(faults=fault)
    recording = asyncio.Event()

    async def slow(record: Step) -> None:
        await record()
        if not recording.is_set():
            recording.set()
            await asyncio.Event().wait()

    with monkeypatch.context() as slowly:
        replace_step(slowly, getattr(transitions, method), slow)
        async with client(gateway) as asker, Batch(asker, [FOX], output=tmp_path, fsync=False):
            await recording.wait()
    status = read_status(tmp_path / ".imagen")
    expected = {"done": ("succeeded", 0), "doubt": ("interrupted", 1), "never_sent": (None, 0)}[method]
    assert ([name for name, count in status.jobs.items() if count], status.doubts) == (
        [expected[0]] if expected[0] else [],
        expected[1],
    )
    assert len(metadata(tmp_path)) == (method == "done")
    works = await imagen_sandbox_factory()
    await run(works, [FOX], tmp_path)
    assert prompts(tmp_path) == [FOX]


async def test_a_job_that_is_cancelled_while_its_interruption_is_recorded_keeps_its_images(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = asyncio.Event()
    publish = Publisher.publish

    async def slow(record: Step) -> None:
        await record()
        recording.set()
        await asyncio.Event().wait()

    def full(self: Publisher, temporary: str, stem: str, ending: str) -> str:
        if not stem.endswith("-0"):
            raise OSError(28, "No space left on device")
        return publish(self, temporary, stem, ending)

    with monkeypatch.context() as bad:
        replace_step(bad, transitions.doubt, slow)
        bad.setattr(Publisher, "publish", full)
        async with client(imagen_sandbox) as asker, Batch(asker, numbered(1, n=2), output=tmp_path, fsync=False):
            await recording.wait()
    status = read_status(tmp_path / ".imagen")
    assert (status.jobs["interrupted"], status.jobs["intent"], status.doubts) == (1, 0, 1)
    assert len(images(tmp_path)) == 1
    await run(imagen_sandbox, numbered(1, n=2), tmp_path)
    assert imagen_sandbox.ledger.billed_images == 3
    assert len(images(tmp_path)) == 2


async def test_the_close_waits_for_threads_that_work_in_the_folder(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived, gate = threading.Event(), threading.Event()
    real = LocalStore.sweep

    def slow(self: LocalStore) -> int:
        arrived.set()
        assert gate.wait(30)
        return real(self)

    with monkeypatch.context() as slowly:
        slowly.setattr(LocalStore, "sweep", slow)
        task = asyncio.ensure_future(run(imagen_sandbox, [FOX], tmp_path))
        assert await asyncio.to_thread(arrived.wait, 30)
        for _ in range(3):
            task.cancel()
            await settle()
            assert not task.done()
        gate.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert (await run(imagen_sandbox, [FOX], tmp_path)).summary.ok  # the folder is free


@pytest.mark.parametrize("turns", [0, 3, 30, 100, 200, 400, 700, 1200, 2000, 3500])
async def test_a_batch_that_is_left_at_any_moment_leaves_no_task_or_file(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, turns: int
) -> None:
    gateway = await imagen_sandbox_factory(faults={"429": 0.2, "500": 0.2, "filtered": 0.1})
    rows = [*numbered(8), *numbered(4, n=6, id="six")]
    tasks, threads, descriptors = asyncio.all_tasks(), set(threading.enumerate()), open_files()
    async with client(gateway, slots=3) as asker:
        async with Batch(asker, rows, output=tmp_path, fsync=False):
            for _ in range(turns):
                await asyncio.sleep(0)
        assert {task for task in asyncio.all_tasks() - tasks if "imagen" in task.get_name()} == set()
    await gateway.settled()
    assert {thread.name for thread in set(threading.enumerate()) - threads if "imagen" in thread.name} == set()
    assert [path for path in open_files() if str(tmp_path) in path and path not in descriptors] == []
    assert strays(tmp_path) == []
    status = read_status(tmp_path / ".imagen")
    assert status.jobs["intent"] == 0
    rest = await run(gateway, rows, tmp_path, asking={"attempts": 50})
    images(tmp_path)
    assert set(rest.statuses) <= {"succeeded", "skipped", "filtered"}
    assert {line["status"] for line in errors(tmp_path)} <= {"filtered", "in_doubt"}
    status = read_status(tmp_path / ".imagen")
    assert status.images == len(metadata(tmp_path))
    assert gateway.ledger.billed_images <= status.images + sum(
        6 * len(line.get("doubts", ())) for line in errors(tmp_path)
    )


def open_files() -> list[str]:
    gc.collect()
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are enough
        with suppress(FileNotFoundError):  # the listing's own
            found.append(os.readlink(f"/proc/self/fd/{name}"))  # noqa: PTH115 - a text will do
    return sorted(found)


async def test_a_prompt_source_in_the_middle_of_a_pipe_can_be_left(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    reading, writing = os.pipe()
    try:
        os.write(writing, f"{FOX}\n".encode())
        async with (
            client(imagen_sandbox) as asker,
            Batch(asker, open_source(f"/dev/fd/{reading}", format="txt"), output=tmp_path, fsync=False) as batch,
        ):
            assert (await anext(batch)).status is Status.SUCCEEDED  # although the pipe is still open
    finally:
        os.close(writing)
        os.close(reading)
    assert prompts(tmp_path) == [FOX]


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"faults": {"503-model-not-found": 1.0}}, ModelNotFoundError),
        ({"models": ["another"]}, ModelNotFoundError),
        ({"api_key": "sk-other"}, AuthenticationError),
    ],
)
async def test_an_error_that_no_job_can_avoid_stops_the_batch_once(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, options: dict[str, Any], error: type[ImagenError]
) -> None:
    gateway = await imagen_sandbox_factory(**options)
    stopped = await caught(gateway, numbered(50), tmp_path, asking={"slots": 4, "api_key": SANDBOX_KEY})
    assert isinstance(stopped.error, error)
    assert stopped.outcomes == []
    assert gateway.requests <= 5  # a returned permit is used immediately
    assert sum(read_status(tmp_path / ".imagen").jobs.values()) == 0
    assert errors(tmp_path) == []
    works = await imagen_sandbox_factory()
    done = await run(works, numbered(50), tmp_path, asking={"slots": 8})
    assert done.statuses == ["succeeded"] * 50


async def test_requests_in_flight_when_the_batch_stops_are_finished_and_have_outcomes(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    work = Held(2)  # the gateway refuses the model before any work
    gateway = await imagen_sandbox_factory(latency=1, sleep=work)
    rows: list[str | ImageRequest] = [FOX, OWL, ImageRequest(WHALE, model="gone"), *numbered(20)]
    async with client(gateway, slots=3) as asker, Batch(asker, rows, output=tmp_path, fsync=False) as batch:
        await work.arrived.wait()
        await until(lambda: batch.progress.stopping)  # the refusal has been received, not only sent
        work.let.set()
        given: set[str] = set()
        with pytest.raises(ModelNotFoundError):
            async for outcome in batch:
                given.add(outcome.request.prompt)
        with pytest.raises(StopAsyncIteration):
            await anext(batch)
    assert {FOX, OWL} <= given
    assert len(given) <= 3  # a returned permit is used immediately
    assert prompts(tmp_path) == sorted(given)


async def test_two_batches_do_not_share_a_folder(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    async with client(imagen_sandbox) as asker, Batch(asker, [FOX], output=tmp_path, fsync=False) as batch:
        with pytest.raises(JournalLockedError, match="another run"):
            await run(imagen_sandbox, [OWL], tmp_path)
        assert [outcome.status async for outcome in batch] == [Status.SUCCEEDED]
    assert imagen_sandbox.requests == 1
    assert prompts(tmp_path) == [FOX]


async def test_an_output_that_is_a_file_is_refused(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigurationError, match="is not a folder"):
        await run(imagen_sandbox, [FOX], tmp_path / "out")
    assert (tmp_path / "out").read_text() == "mine"
    assert imagen_sandbox.requests == 0


async def test_a_folder_with_a_metadata_file_of_another_kind_is_refused(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"mine": 1}\n')
    with pytest.raises(StoreError, match="not from this journal"):
        await run(imagen_sandbox, [FOX], tmp_path)
    assert (tmp_path / "metadata.jsonl").read_text() == '{"mine": 1}\n'
    assert imagen_sandbox.requests == 0
    (tmp_path / "metadata.jsonl").unlink()
    await run(imagen_sandbox, [FOX], tmp_path)  # the folder is unlocked


async def test_a_batch_is_iterated_inside_its_own_with(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    async with client(imagen_sandbox) as asker:
        batch = Batch(asker, [FOX], output=tmp_path)
        with pytest.raises(ConfigurationError, match="async with"):
            await anext(batch)
        with pytest.raises(ConfigurationError, match=r"write: async with Batch\(.+async for outcome in batch"):
            async for _ in batch:
                pass
        batch.drain()
        await batch.aclose()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - names are enough


async def test_a_failing_disk_stops_the_batch_and_lists_the_images_in_doubt(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = 0
    real = Publisher.publish

    def publish(self: Publisher, temporary: str, stem: str, ending: str) -> str:
        nonlocal kept
        kept += 1
        if kept > 6:
            raise OSError(28, "No space left on device")
        return real(self, temporary, stem, ending)

    with monkeypatch.context() as full:
        full.setattr(Publisher, "publish", publish)
        stopped = await caught(imagen_sandbox, numbered(40, n=2), tmp_path, asking={"slots": 3})
    assert isinstance(stopped.error, StoreError)
    assert "make room" in str(stopped.error)
    # Two threads write: the six images are those of three jobs, or of two and halves of two more.
    assert len(stopped.outcomes) in {2, 3}
    assert len(metadata(tmp_path)) == 6
    assert strays(tmp_path) == []
    listed = errors(tmp_path)
    assert {line["status"] for line in listed} == {"interrupted"}
    billed = imagen_sandbox.ledger.billed_images
    assert billed == 6 + sum(doubt["images"] for line in listed for doubt in line["doubts"])
    assert imagen_sandbox.requests <= 9
    rest = await run(imagen_sandbox, numbered(40, n=2), tmp_path)
    assert rest.statuses.count("succeeded") == 40 - len(stopped.outcomes)
    assert prompts(tmp_path) == sorted(2 * [row.prompt for row in numbered(40)])


async def test_a_failing_journal_stops_the_batch_before_more_is_sent(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = 0

    async def intent(record: Step) -> None:
        nonlocal seen
        seen += 1
        if seen > 5:
            raise JournalError("the journal cannot be written")
        await record()

    with monkeypatch.context() as broken:
        replace_step(broken, transitions.intent, intent)
        stopped = await caught(imagen_sandbox, numbered(20), tmp_path, asking={"slots": 2})
    assert isinstance(stopped.error, JournalError)
    # The fifth may not have left yet when the sixth failed; then it is not sent.
    assert set(stopped.statuses) == {"succeeded"}
    assert imagen_sandbox.requests == len(stopped.statuses) in {4, 5}
    assert errors(tmp_path) == []
    assert (await run(imagen_sandbox, numbered(20), tmp_path)).summary.ok
    assert imagen_sandbox.requests == 20


async def test_a_metadata_file_that_was_replaced_by_a_folder_stops_the_batch(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    def each(_: Batch, __: Outcome) -> None:
        if not (tmp_path / "metadata.jsonl").exists():
            (tmp_path / "metadata.jsonl").mkdir()

    with pytest.raises(StoreError, match="not a plain file") as held:
        await run(imagen_sandbox, numbered(5), tmp_path, each=each)
    # The error and its traceback are still referenced, but the journal is closed.
    with closing(sqlite3.connect(tmp_path / ".imagen" / "journal.sqlite", timeout=0)) as journal:
        assert journal.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 0
    assert held.value.path == str(tmp_path / "metadata.jsonl")
    (tmp_path / "metadata.jsonl").rmdir()
    assert (await run(imagen_sandbox, numbered(5), tmp_path)).summary.ok
    assert prompts(tmp_path) == sorted(row.prompt for row in numbered(5))


async def test_an_unexpected_error_of_the_store_is_raised(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> str:
        raise TypeError("a bug")

    with monkeypatch.context() as bug:
        bug.setattr(Publisher, "publish", broken)
        with pytest.raises(TypeError, match="a bug"):
            await run(imagen_sandbox, [FOX], tmp_path)
    [line] = errors(tmp_path)
    assert line["status"] == "interrupted"
    assert (await run(imagen_sandbox, [FOX], tmp_path)).statuses == ["succeeded"]
