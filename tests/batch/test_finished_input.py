"""A finished file is recognized, and no other file is taken for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import attrs
import pytest

from imagen_async.batch import Report, Source, open_source
from imagen_async.batch.finished_input import FinishedInput
from imagen_async.batch.journal import (
    Journal,
    queries,
    read_finished_input,
    transitions,
)
from imagen_async.catalog import CATALOG, Catalog, Model
from imagen_async.exceptions import ConfigurationError, InvalidInputError, JournalError
from tests.batch.journals import replace_step
from tests.batch.running import FOX, OWL, WHALE, caught, metadata, run

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory

ROWS = (FOX, OWL, WHALE)


def report(**known: Any) -> Report:
    fields: dict[str, Any] = {"source": "rows.jsonl", "rows": 3, "requests": 3, "images": 3, "notes": {}, "models": {}}
    return Report(**(fields | {"bad": 0, "problems": ()} | known))


def file_of(folder: Path, *prompts: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the sources that were read row by row."""
    seen: list[str] = []
    rows = Source.rows

    def noted(source: Source) -> Any:
        seen.append(source.name)
        return rows(source)

    monkeypatch.setattr(Source, "rows", noted)
    return seen


def finished(folder: Path, *, catalog: Catalog = CATALOG, **settings: Any) -> FinishedInput:
    return FinishedInput(open_source(folder / "rows.jsonl", **settings), folder, catalog)


async def recorded(folder: Path, known: Report) -> str:
    """Record that the file's jobs have succeeded, and return the record."""
    async with await Journal.open(folder / ".imagen", fsync=False) as journal:
        await finished(folder).record(known, journal)
        return await journal.perform(queries.finished_input) or ""


async def test_the_record_has_the_report_of_its_file(tmp_path: Path) -> None:
    file_of(tmp_path, *ROWS)
    known = report(rows=10**9, images=7, notes={"\ud800é": 2}, models={"imagen-3.0-generate-001": 3})
    await recorded(tmp_path, known)
    assert attrs.evolve(finished(tmp_path).find() or report(), source="rows.jsonl") == known


async def test_the_record_is_of_its_own_bytes_settings_and_limits_alone(tmp_path: Path) -> None:
    path = file_of(tmp_path, *ROWS)
    await recorded(tmp_path, report())
    limited = CATALOG.extended(Model(id="imagen-3.0-generate-001", max_n=2))
    assert finished(tmp_path).find() is not None
    assert finished(tmp_path, defaults={"n": 2}).find() is None
    assert finished(tmp_path, format="txt").find() is None
    assert FinishedInput(open_source(path, catalog=limited), tmp_path, CATALOG).find() is None
    assert finished(tmp_path, catalog=limited).find() is None
    path.write_bytes(path.read_bytes().replace(b"fox", b"fix"))
    assert finished(tmp_path).find() is None


async def test_a_damaged_record_is_ignored(tmp_path: Path) -> None:
    file_of(tmp_path, *ROWS)
    text = await recorded(tmp_path, report())
    changed = [text[:place] + chr(ord(text[place]) ^ 1) + text[place + 1 :] for place in range(0, len(text), 5)]
    for damaged in ("", "x", " ", " {}", "{}", *changed):
        async with await Journal.open(tmp_path / ".imagen", fsync=False) as journal:
            await journal.perform(transitions.set_finished_input, damaged)
        assert finished(tmp_path).find() is None


async def test_a_finished_file_is_not_read_again_and_its_jobs_count_as_skipped(
    imagen_sandbox: SandboxGateway, tmp_path: Path, read: list[str]
) -> None:
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    first = await run(imagen_sandbox, open_source(path), out, tell_skipped=False)
    assert first.statuses == ["succeeded"] * 3
    before = metadata(out)
    del read[:]
    again = await run(imagen_sandbox, open_source(path), out, tell_skipped=False)
    assert read == []
    assert again.outcomes == []
    assert (again.summary.jobs, again.summary.skipped, again.summary.ok) == (3, 3, True)
    assert imagen_sandbox.requests == 3
    assert metadata(out) == before


async def test_every_outcome_of_a_finished_file_is_returned_if_asked_for(
    imagen_sandbox: SandboxGateway, tmp_path: Path, read: list[str]
) -> None:
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    await run(imagen_sandbox, open_source(path), out)
    del read[:]
    again = await run(imagen_sandbox, open_source(path), out, ordered=True)
    assert again.statuses == ["skipped"] * 3
    assert [outcome.request.prompt for outcome in again.outcomes] == [*ROWS]
    assert len(read) == 1  # the first pass is skipped


async def test_a_file_with_new_rows_is_read(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    out = tmp_path / "out"
    await run(imagen_sandbox, open_source(file_of(tmp_path, FOX, OWL)), out)
    again = await run(imagen_sandbox, open_source(file_of(tmp_path, *ROWS)), out, tell_skipped=False)
    assert again.statuses == ["succeeded"]
    assert (again.summary.skipped, again.summary.succeeded) == (2, 1)


async def test_a_file_with_a_new_invalid_row_is_refused(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    out = tmp_path / "out"
    await run(imagen_sandbox, open_source(file_of(tmp_path, *ROWS)), out)
    with pytest.raises(InvalidInputError):
        await run(imagen_sandbox, open_source(file_of(tmp_path, *ROWS, "")), out, tell_skipped=False)


async def test_a_file_with_a_failed_job_is_not_recorded_as_finished(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    blocked = await imagen_sandbox_factory(faults={"400-blocked": 1.0})
    await run(blocked, open_source(path), out)
    works = await imagen_sandbox_factory()
    left = await run(works, open_source(path), out, tell_skipped=False)
    assert left.statuses == ["failed"] * 3
    assert read_finished_input(out / ".imagen") is None
    await run(works, open_source(path), out, retry_failed=True)
    assert read_finished_input(out / ".imagen") is not None


async def test_a_run_that_was_stopped_records_no_finished_file(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    stopped = await caught(imagen_sandbox, open_source(path), out, max_images=1)
    assert stopped.error is not None
    assert read_finished_input(out / ".imagen") is None


@pytest.mark.parametrize("error", [JournalError("the disk is full"), ConfigurationError("the file has changed")])
async def test_a_run_that_cannot_record_a_finished_file_succeeds(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(*_: object) -> None:
        raise error

    replace_step(monkeypatch, transitions.set_finished_input, fail)
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    assert (await run(imagen_sandbox, open_source(path), out)).summary.ok
    assert (await run(imagen_sandbox, open_source(path), out)).statuses == ["skipped"] * 3


async def test_a_run_that_was_drained_records_no_finished_file(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    path, out = file_of(tmp_path, *(f"{FOX} number {number}" for number in range(200))), tmp_path / "out"
    run_of_some = await run(imagen_sandbox, open_source(path), out, each=lambda batch, _: batch.drain())
    assert run_of_some.summary.ok
    assert run_of_some.summary.jobs < 200
    assert read_finished_input(out / ".imagen") is None


async def test_redo_damaged_checks_the_images_of_a_finished_file(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    await run(imagen_sandbox, open_source(path), out)
    (out / metadata(out)[1]["file_name"]).unlink()
    again = await run(imagen_sandbox, open_source(path), out, redo_damaged=True, tell_skipped=False)
    assert again.statuses == ["succeeded"]
    assert again.summary.skipped == 2


async def test_a_withdrawal_removes_the_record(tmp_path: Path) -> None:
    async with await Journal.open(tmp_path, fsync=False) as journal:
        await journal.perform(transitions.set_finished_input, "of a file")
        assert await journal.perform(queries.finished_input) == "of a file"
        await journal.perform(transitions.set_finished_input, "of another")
        assert await journal.perform(queries.finished_input) == "of another"
        await journal.perform(transitions.withdraw, [(bytes(16), 0)])
        assert await journal.perform(queries.finished_input) is None


async def test_the_record_is_read_only_from_a_journal_that_was_closed(tmp_path: Path) -> None:
    assert read_finished_input(tmp_path) is None
    async with await Journal.open(tmp_path, fsync=False) as journal:
        await journal.perform(transitions.set_finished_input, "of a file")
        assert read_finished_input(tmp_path) is None
    assert read_finished_input(tmp_path) == "of a file"
    (tmp_path / "journal.sqlite-wal").write_bytes(b"what a killed run left")
    assert read_finished_input(tmp_path) is None
