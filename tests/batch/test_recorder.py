from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import ImageRequest
from imagen_async.batch import Batch, Progress
from imagen_async.batch.budget import Budget, Cost
from imagen_async.batch.disk_space import Space
from imagen_async.batch.journal import Journal, read_status, transitions
from imagen_async.batch.recorder import RunRecorder
from imagen_async.batch.text_files import MetadataFile
from imagen_async.catalog import CATALOG, Catalog, Model
from imagen_async.exceptions import LimitReachedError, StoreError
from imagen_async.stores.publisher import Publisher
from tests.batch.journals import replace_step
from tests.batch.running import FOX, OWL, Held, caught, client, errors, files, metadata, numbered, prompts, run
from tests.clock import FakeClock

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory

FAST = "imagen-3.0-fast-generate-001"
MIXED = {"500": 0.1, "504": 0.1, "429": 0.1, "short": 0.1, "truncate": 0.1, "corrupt-base64": 0.05, "filtered": 0.05}


def unexpected(error: BaseException) -> None:
    raise AssertionError(error)


def recorder_of(journal: Journal, folder: Path, budget: Budget, catalog: Catalog = CATALOG) -> RunRecorder:
    return RunRecorder(journal, folder, budget=budget, catalog=catalog, progress=Progress(), fsync=False)


async def test_an_unknown_price_counts_as_nothing(tmp_path: Path) -> None:
    catalog = CATALOG.extended(Model(id="dear", price_usd=0.5), Model(id="free"))
    async with await Journal.open(tmp_path, fsync=False) as journal:
        recorder = recorder_of(journal, tmp_path, Budget(), catalog)
        assert [recorder.price(model) for model in (FAST, "dear", "free", "unheard-of")] == [0.02, 0.5, 0.0, 0.0]


# --- a cap is a cap ---


@pytest.mark.parametrize("cap", [1, 7, 23])
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_folder_never_buys_more_images_than_its_cap(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, cap: int, seed: int
) -> None:
    gateway = await imagen_sandbox_factory(faults=MIXED, seed=seed)
    rows = [ImageRequest(f"{FOX} {number}", n=1 + number % 4) for number in range(30)]
    bought = 0
    for _ in range(3):  # later runs buy no more either
        stopped = await caught(gateway, rows, tmp_path, max_images=cap, asking={"slots": 8})
        assert isinstance(stopped.error, LimitReachedError)
        assert f"{cap} images" in str(stopped.error)
        await gateway.settled()
        bought = gateway.ledger.billed_images
        assert bought <= cap
    raised = await run(gateway, rows, tmp_path, max_images=100_000, asking={"slots": 8, "attempts": 50})
    assert len(raised.outcomes) == 30
    assert gateway.ledger.billed_images > bought
    assert set(prompts(tmp_path)) <= {row.prompt for row in rows}


async def test_a_cap_is_used_up_to_its_last_image(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    stopped = await caught(imagen_sandbox, numbered(20), tmp_path, max_images=7, asking={"slots": 4})
    assert isinstance(stopped.error, LimitReachedError)
    assert stopped.statuses == ["succeeded"] * 7
    assert imagen_sandbox.ledger.billed_images == len(files(tmp_path)) == len(metadata(tmp_path)) == 7
    assert errors(tmp_path) == []
    assert sum(read_status(tmp_path / ".imagen").jobs.values()) == 7
    exactly = await run(imagen_sandbox, numbered(20), tmp_path, max_images=20, asking={"slots": 8})
    assert exactly.summary.ok
    assert imagen_sandbox.ledger.billed_images == 20
    assert (await run(imagen_sandbox, numbered(20), tmp_path, max_images=0)).statuses == ["skipped"] * 20


async def test_a_budget_counts_what_each_model_costs(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    rows = [*numbered(5), *numbered(10, model=FAST)]
    stopped = await caught(imagen_sandbox, rows, tmp_path, budget=0.3, ordered=True, asking={"slots": 1})
    assert isinstance(stopped.error, LimitReachedError)
    assert "0.3 USD" in str(stopped.error)
    assert len(stopped.outcomes) == 10  # 5 at 0.04 and 5 at 0.02
    assert stopped.summary.cost_usd == 0.3
    more = await caught(imagen_sandbox, rows, tmp_path, budget=0.34, ordered=True, asking={"slots": 1})
    assert more.statuses == ["skipped"] * 10 + ["succeeded"] * 2
    assert (await run(imagen_sandbox, rows, tmp_path, budget=0.4)).summary.ok


async def test_a_request_in_doubt_counts_as_spent(imagen_sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    gateway = await imagen_sandbox_factory(faults={"504": 1.0})
    stopped = await caught(gateway, [ImageRequest(FOX, n=2)], tmp_path, max_images=5, asking={"attempts": 9})
    assert isinstance(stopped.error, LimitReachedError)
    assert "4 images" in str(stopped.error)
    assert gateway.ledger.billed_images == 4
    [line] = errors(tmp_path)
    assert (line["status"], len(line["doubts"])) == ("interrupted", 2)
    again = await caught(gateway, [ImageRequest(FOX, n=2)], tmp_path, max_images=5)
    assert isinstance(again.error, LimitReachedError)
    assert gateway.requests == 2
    raised = await caught(gateway, [ImageRequest(FOX, n=2)], tmp_path, max_images=6)
    assert isinstance(raised.error, LimitReachedError)
    assert gateway.ledger.billed_images == 6


async def test_a_doubt_of_an_earlier_run_counts_in_dollars_as_well(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory(faults={"504": 1.0})
    rows = [ImageRequest(FOX, n=2)]
    assert (await run(gateway, rows, tmp_path, asking={"attempts": 2})).statuses == ["in_doubt"]
    stopped = await caught(gateway, rows, tmp_path, budget=0.23, retry_failed=True)
    assert isinstance(stopped.error, LimitReachedError)
    assert gateway.requests == 2
    await caught(gateway, rows, tmp_path, budget=0.24, retry_failed=True)
    assert gateway.requests == 3


async def test_a_doubt_counts_at_the_price_of_its_own_model(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory(faults={"504": 1.0})
    rows = [ImageRequest(FOX, n=3, model=FAST)]
    assert (await run(gateway, rows, tmp_path, asking={"attempts": 2})).statuses == ["in_doubt"]
    stopped = await caught(gateway, rows, tmp_path, budget=0.17, retry_failed=True)
    assert isinstance(stopped.error, LimitReachedError)
    assert gateway.requests == 2
    await run(gateway, rows, tmp_path, budget=0.18, retry_failed=True, asking={"attempts": 1})
    assert gateway.requests == 3
    told = read_status(tmp_path / ".imagen")
    assert (told.doubts, told.doubtful_images, told.doubtful_usd) == (3, 9, 0.18)


async def test_an_adopted_image_is_counted_once(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class CrashError(Exception):
        pass

    async def dead(*_: Any, **__: Any) -> None:
        raise CrashError

    with monkeypatch.context() as crashing:
        replace_step(crashing, transitions.done, dead)
        replace_step(crashing, transitions.doubt, dead)
        with pytest.raises(CrashError):
            await run(imagen_sandbox, [FOX], tmp_path, asking={"slots": 1})
    assert len(files(tmp_path)) == 1
    done = await run(imagen_sandbox, [FOX, OWL], tmp_path, max_images=2, ordered=True)
    assert done.statuses == ["skipped", "succeeded"]
    # The next run reads the journal's counts.
    assert (await run(imagen_sandbox, [FOX, OWL], tmp_path, max_images=2)).summary.ok
    stopped = await caught(imagen_sandbox, [FOX, OWL, FOX], tmp_path, max_images=2)
    assert isinstance(stopped.error, LimitReachedError)


async def test_an_unbilled_request_is_released(imagen_sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    gateway = await imagen_sandbox_factory(faults={"429": 1.0}, faults_per_body=2)
    done = await run(gateway, numbered(6), tmp_path, max_images=6, asking={"slots": 1})
    assert done.summary.ok
    filtered = await imagen_sandbox_factory(faults={"filtered": 1.0})
    assert (await run(filtered, numbered(9, n=4), tmp_path / "2", max_images=4, asking={"slots": 1})).statuses == [
        "filtered"
    ] * 9
    short = await imagen_sandbox_factory(faults={"short": 1.0})
    done = await run(short, numbered(3, n=2), tmp_path / "3", max_images=4, asking={"slots": 1})
    assert done.statuses == ["partial"] * 3
    assert short.ledger.billed_images == 3


# --- counting ---


async def test_progress_counts_a_running_batch(imagen_sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    work = Held(3)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work, faults={"504": 1.0}, faults_per_body=1)
    async with (
        client(gateway, slots=3) as asker,
        Batch(asker, numbered(5, n=2), output=tmp_path, fsync=False) as batch,
    ):
        await work.arrived.wait()
        assert (batch.progress.in_flight, batch.progress.attempts, batch.progress.done) == (3, 3, 0)
        work.let.set()
        assert len([outcome async for outcome in batch]) == 5
        counted = batch.progress
    assert (counted.in_flight, counted.attempts, counted.retries) == (0, 10, 5)
    assert (counted.succeeded, counted.images, counted.doubts) == (5, 10, 5)
    assert (round(counted.cost_usd, 6), round(counted.doubtful_usd, 6)) == (0.4, 0.4)
    assert counted.total == 5
    assert batch.summary.as_dict()["cost_usd"] == 0.4


async def test_a_cancelled_batch_has_nothing_in_flight(imagen_sandbox_factory: SandboxFactory, tmp_path: Path) -> None:
    work = Held(2)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work)
    async with client(gateway, slots=2) as asker, Batch(asker, numbered(5), output=tmp_path, fsync=False) as batch:
        await work.arrived.wait()
    assert (batch.progress.in_flight, batch.progress.doubts, batch.progress.attempts) == (0, 2, 2)
    assert batch.summary.doubtful_usd == 0.08


async def test_elapsed_seconds_stop_when_the_batch_ends(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    clock = FakeClock()
    async with (
        client(imagen_sandbox, _runtime=clock.runtime()) as asker,
        Batch(asker, [FOX], output=tmp_path, fsync=False) as batch,
    ):
        clock.now += 2.5
        assert batch.elapsed_s == 2.5
    clock.now = 999.0
    assert batch.summary.elapsed_s == 2.5


# --- files ---


async def test_a_batch_whose_metadata_cannot_be_written_stops_immediately(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Held(2)
    gateway = await imagen_sandbox_factory(latency=1, sleep=work)

    flush = MetadataFile.flush

    async def failing(file: MetadataFile) -> int:
        if not work.arrived.is_set():
            return await flush(file)
        if not work.let.is_set():
            work.let.set()
            raise StoreError("the disk is full")
        return await flush(file)

    monkeypatch.setattr("imagen_async.batch.recorder.EVERY_S", 0.0)
    monkeypatch.setattr(MetadataFile, "flush", failing)
    stopped = await caught(gateway, numbered(30), tmp_path, asking={"slots": 2})
    assert isinstance(stopped.error, StoreError)
    assert len(stopped.outcomes) < 30
    assert set(stopped.statuses) == {"succeeded"}
    assert gateway.requests == len(stopped.outcomes) == len(metadata(tmp_path))


async def test_the_budget_begins_with_what_the_folder_has_spent(tmp_path: Path, imagen_sandbox: SandboxGateway) -> None:
    await run(imagen_sandbox, [ImageRequest(FOX, n=3), ImageRequest(OWL, n=2, model=FAST)], tmp_path)
    async with await Journal.open(tmp_path / ".imagen", fsync=False) as journal:
        recorder = recorder_of(journal, tmp_path, Budget(max_images=6, max_usd=0.2))
        await recorder.begin(unexpected, Space(tmp_path, Progress()))
        assert (recorder.budget.images, round(recorder.budget.usd, 6)) == (5, 0.16)
        with pytest.raises(LimitReachedError):
            recorder.budget.reserve(Cost(2, 0.04))
        recorder.budget.reserve(Cost(1, 0.04))
        await recorder.settle()


async def test_errors_appear_during_the_run_and_are_sorted_at_its_end(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory(faults={"400-blocked": 1.0})
    seen: list[list[int]] = []

    def each(*_: object) -> None:
        seen.append([line["line"] for line in errors(tmp_path)])

    await run(gateway, numbered(6, id="x"), tmp_path, each=each)
    assert all(seen)
    assert len(seen[-1]) == 6
    listed = errors(tmp_path)
    assert [line["line"] for line in listed] == [1, 2, 3, 4, 5, 6]
    first = listed[0]
    assert list(first)[:7] == ["id", "line", "status", "prompt", "error", "message", "request_id"]
    assert (first["id"], first["status"], first["prompt"]) == ("x", "failed", f"{FOX} number 0")
    assert (first["error"], first["http_status"], first["attempts"]) == ("RejectedError", 400, 1)
    assert first["request_id"] in {entry.request_id for entry in gateway.ledger}
    assert "doubts" not in first


async def test_every_part_of_a_split_row_is_listed_under_the_rows_own_id(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory(faults={"400-blocked": 1.0})
    await run(gateway, [ImageRequest(FOX, n=6, id="fox")], tmp_path)
    assert [(line["id"], line["line"]) for line in errors(tmp_path)] == [("fox", 1), ("fox", 1)]
    assert sorted(line["n"] for line in errors(tmp_path)) == [2, 4]


async def test_an_earlier_failure_is_listed_when_the_next_run_starts(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    gateway = await imagen_sandbox_factory(faults={"400-blocked": 1.0})
    await run(gateway, [FOX], tmp_path)
    (tmp_path / "errors.jsonl").unlink()
    (tmp_path / "metadata.jsonl").unlink(missing_ok=True)
    async with client(gateway) as asker, Batch(asker, [], output=tmp_path, fsync=False):
        assert [line["prompt"] for line in errors(tmp_path)] == [FOX]


async def test_a_lost_metadata_file_is_written_again(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    await run(imagen_sandbox, numbered(4), tmp_path)
    whole = (tmp_path / "metadata.jsonl").read_bytes()
    (tmp_path / "metadata.jsonl").unlink()
    await run(imagen_sandbox, [], tmp_path)
    assert (tmp_path / "metadata.jsonl").read_bytes() == whole
    (tmp_path / "metadata.jsonl").write_bytes(whole[:-30])
    await run(imagen_sandbox, [], tmp_path)
    assert (tmp_path / "metadata.jsonl").read_bytes() == whole


async def test_a_request_in_flight_at_a_crash_is_a_doubt_of_the_next_run(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store dies with the process: no file, no record, an intent."""
    gateway = await imagen_sandbox_factory()

    async def dead(*_: Any, **__: Any) -> None:
        raise RuntimeError("dead")

    def gone(*_: Any) -> str:
        raise RuntimeError("dead")

    with monkeypatch.context() as crashing:
        replace_step(crashing, transitions.done, dead)
        replace_step(crashing, transitions.doubt, dead)
        crashing.setattr(Publisher, "publish", gone)
        with pytest.raises(RuntimeError, match="dead"):
            await run(gateway, [ImageRequest(FOX, n=2)], tmp_path)
    done = await run(gateway, [ImageRequest(FOX, n=2)], tmp_path)
    assert done.statuses == ["succeeded"]
    [line] = errors(tmp_path)
    assert line["status"] == "in_doubt"
    [doubt] = line["doubts"]
    assert doubt["message"] == "the run ended while the request was in flight"
    assert (doubt["attempt"], doubt["request_id"], doubt["images"], doubt["usd"]) == (1, None, 2, 0.08)
    assert gateway.ledger.billed_images == len(metadata(tmp_path)) + 2
