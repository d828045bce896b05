"""A finished file is known again, and nothing else is taken for it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch import Report, Source, open_source
from imagen_async.batch.journal import (
    Journal,
    queries,
    read_receipt,
    transitions,
)
from imagen_async.batch.receipt import mark_of, receipt_of, report_in
from imagen_async.catalog import CATALOG, Model
from imagen_async.exceptions import ConfigurationError, InvalidInputError, JournalError
from tests.batch.journals import replace_step
from tests.batch.running import FOX, OWL, WHALE, caught, metadata, run
from tests.profiles import times

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory

ROWS = (FOX, OWL, WHALE)

counts = st.integers(0, 10**9)
words = st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=9), counts, max_size=3)


def report(**known: Any) -> Report:
    fields: dict[str, Any] = {"source": "rows.jsonl", "rows": 3, "requests": 3, "images": 3, "notes": {}, "models": {}}
    return Report(**(fields | {"bad": 0, "problems": ()} | known))


def file_of(folder: Path, *prompts: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"prompt": prompt}) + "\n" for prompt in prompts), encoding="utf-8")
    return path


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """How often a source was read row by row."""
    seen: list[str] = []
    rows = Source.rows

    def noted(source: Source) -> Any:
        seen.append(source.name)
        return rows(source)

    monkeypatch.setattr(Source, "rows", noted)
    return seen


@given(st.tuples(counts, counts, counts), st.tuples(words, words), st.text("0123456789abcdef", max_size=64))
@times(1)
def test_a_receipt_says_what_the_report_said_and_to_its_own_file_alone(
    numbers: tuple[int, int, int], named: tuple[dict[str, int], dict[str, int]], mark: str
) -> None:
    told = report(**dict(zip(("rows", "requests", "images", "notes", "models"), (*numbers, *named), strict=True)))
    receipt = receipt_of(told, mark)
    assert report_in(receipt, mark, "rows.jsonl") == told
    assert report_in(receipt, mark + "0", "rows.jsonl") is None


@given(st.data())
@times(1)
def test_a_receipt_with_any_character_changed_is_none(data: st.DataObject) -> None:
    receipt = receipt_of(report(models={"imagen-3.0-generate-001": 3}), "ab12")
    place = data.draw(st.integers(0, len(receipt) - 1))
    other = data.draw(st.characters(min_codepoint=32, max_codepoint=126).filter(lambda each: each != receipt[place]))
    assert report_in(receipt[:place] + other + receipt[place + 1 :], "ab12", "rows.jsonl") is None


@pytest.mark.parametrize("text", ["", "x", " ", " {}", "{}"])
def test_what_is_no_receipt_is_none(text: str) -> None:
    assert report_in(text, "ab12", "rows.jsonl") is None


def test_a_file_is_the_same_by_its_bytes_and_the_terms_of_reading_it(tmp_path: Path) -> None:
    path = file_of(tmp_path, *ROWS)
    mark = mark_of(open_source(path), CATALOG)
    assert mark == mark_of(open_source(path), CATALOG)
    limited = CATALOG.extended(Model(id="imagen-3.0-generate-001", max_n=2))
    others = [
        mark_of(open_source(path, defaults={"n": 2}), CATALOG),
        mark_of(open_source(path, format="txt"), CATALOG),
        mark_of(open_source(path, catalog=limited), CATALOG),
        mark_of(open_source(path), limited),
    ]
    path.write_bytes(path.read_bytes().replace(b"fox", b"fix"))
    assert len({mark, *others, mark_of(open_source(path), CATALOG)}) == 6


async def test_a_finished_file_is_not_read_again_and_all_of_it_counts_as_skipped(
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


async def test_who_wants_every_outcome_gets_it_of_a_finished_file_too(
    imagen_sandbox: SandboxGateway, tmp_path: Path, read: list[str]
) -> None:
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    await run(imagen_sandbox, open_source(path), out)
    del read[:]
    again = await run(imagen_sandbox, open_source(path), out, ordered=True)
    assert again.statuses == ["skipped"] * 3
    assert [outcome.request.prompt for outcome in again.outcomes] == [*ROWS]
    assert len(read) == 1  # it need not be checked first


async def test_a_file_that_was_added_to_is_read(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    out = tmp_path / "out"
    await run(imagen_sandbox, open_source(file_of(tmp_path, FOX, OWL)), out)
    again = await run(imagen_sandbox, open_source(file_of(tmp_path, *ROWS)), out, tell_skipped=False)
    assert again.statuses == ["succeeded"]
    assert (again.summary.skipped, again.summary.succeeded) == (2, 1)


async def test_a_file_that_was_spoiled_is_refused(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    out = tmp_path / "out"
    await run(imagen_sandbox, open_source(file_of(tmp_path, *ROWS)), out)
    with pytest.raises(InvalidInputError):
        await run(imagen_sandbox, open_source(file_of(tmp_path, *ROWS, "")), out, tell_skipped=False)


async def test_there_is_no_receipt_while_a_job_has_not_succeeded(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path
) -> None:
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    blocked = await imagen_sandbox_factory(faults={"400-blocked": 1.0})
    await run(blocked, open_source(path), out)
    works = await imagen_sandbox_factory()
    left = await run(works, open_source(path), out, tell_skipped=False)
    assert left.statuses == ["failed"] * 3
    assert read_receipt(out / ".imagen") is None
    await run(works, open_source(path), out, retry_failed=True)
    assert read_receipt(out / ".imagen") is not None


async def test_a_run_that_was_stopped_leaves_no_receipt(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    stopped = await caught(imagen_sandbox, open_source(path), out, max_images=1)
    assert stopped.error is not None
    assert read_receipt(out / ".imagen") is None


@pytest.mark.parametrize("error", [JournalError("the disk is full"), ConfigurationError("the file has changed")])
async def test_a_run_without_a_receipt_at_its_end_is_none_the_worse(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    async def fail(*_: object) -> None:
        raise error

    replace_step(monkeypatch, transitions.set_receipt, fail)
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    assert (await run(imagen_sandbox, open_source(path), out)).summary.ok
    assert (await run(imagen_sandbox, open_source(path), out)).statuses == ["skipped"] * 3


async def test_a_run_that_is_let_go_before_its_end_leaves_no_receipt(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    path, out = file_of(tmp_path, *(f"{FOX} number {number}" for number in range(200))), tmp_path / "out"
    run_of_some = await run(imagen_sandbox, open_source(path), out, each=lambda batch, _: batch.drain())
    assert run_of_some.summary.ok
    assert run_of_some.summary.jobs < 200
    assert read_receipt(out / ".imagen") is None


async def test_damage_that_is_to_be_made_good_is_looked_for_in_a_finished_file(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    path, out = file_of(tmp_path, *ROWS), tmp_path / "out"
    await run(imagen_sandbox, open_source(path), out)
    (out / metadata(out)[1]["file_name"]).unlink()
    again = await run(imagen_sandbox, open_source(path), out, redo_damaged=True, tell_skipped=False)
    assert again.statuses == ["succeeded"]
    assert again.summary.skipped == 2


async def test_a_withdrawn_image_takes_the_receipt_with_it(tmp_path: Path) -> None:
    async with await Journal.open(tmp_path, fsync=False) as journal:
        await journal.perform(transitions.set_receipt, "of a file")
        assert await journal.perform(queries.receipt) == "of a file"
        await journal.perform(transitions.set_receipt, "of another")
        assert await journal.perform(queries.receipt) == "of another"
        await journal.perform(transitions.withdraw, [(bytes(16), 0)])
        assert await journal.perform(queries.receipt) is None


async def test_a_receipt_is_read_from_outside_only_when_its_journal_was_closed(tmp_path: Path) -> None:
    assert read_receipt(tmp_path) is None
    async with await Journal.open(tmp_path, fsync=False) as journal:
        await journal.perform(transitions.set_receipt, "of a file")
        assert read_receipt(tmp_path) is None
    assert read_receipt(tmp_path) == "of a file"
    (tmp_path / "journal.sqlite-wal").write_bytes(b"what a killed run left")
    assert read_receipt(tmp_path) is None
