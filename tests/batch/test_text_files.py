"""What the text files beside the images promise."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async.batch.folder import ERRORS_NAME, METADATA_NAME
from imagen_async.batch.journal import (
    Admission,
    Doubt,
    Entry,
    Journal,
    admission,
    queries,
    transitions,
)
from imagen_async.batch.text_files import ErrorsFile, MetadataFile
from imagen_async.exceptions import StoreError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@pytest.fixture
async def journal(tmp_path: Path) -> AsyncIterator[Journal]:
    async with await Journal.open(tmp_path / ".imagen", fsync=False, clock=lambda: 7.0) as opened:
        yield opened


async def admit(journal: Journal, line: int, job_id: str | None = None) -> Entry:
    [entry] = await journal.perform(admission.admit, [Admission(line.to_bytes(16, "big"), id=job_id, line=line)])
    return entry


async def keep_images(journal: Journal, *names: str) -> None:
    for name in names:
        entry = await admit(journal, int.from_bytes(name.encode(), "big"))
        await journal.perform(
            transitions.done, entry, status="succeeded", images=[(0, {"file_name": name})], attempts=1
        )


def text_of(*names: str) -> str:
    return "".join(f'{{"file_name": "{name}"}}\n' for name in names)


def remains(folder: Path) -> list[Path]:
    return list(folder.glob(".errors*"))


def error_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / ERRORS_NAME).read_text().splitlines()]


@pytest.mark.parametrize("fsync", [True, False])
async def test_each_image_has_one_line_in_the_order_of_arrival(
    tmp_path: Path, journal: Journal, *, fsync: bool
) -> None:
    file = MetadataFile(journal, tmp_path, fsync=fsync)
    await keep_images(journal, "b", "a")
    assert await file.flush() == 2
    await keep_images(journal, "c")
    assert (await file.flush(), await file.flush()) == (1, 0)
    assert (tmp_path / METADATA_NAME).read_text() == text_of("b", "a", "c")


async def test_no_file_appears_before_the_first_image(tmp_path: Path, journal: Journal) -> None:
    assert await MetadataFile(journal, tmp_path).flush() == 0
    assert not (tmp_path / METADATA_NAME).exists()


@pytest.mark.parametrize(
    "left",
    [
        pytest.param(text_of("a", "b") + '{"file_na', id="half a line more"),
        pytest.param(text_of("a", "b", "x", "y"), id="lines the journal does not know"),
        pytest.param(text_of("a"), id="a line lost"),
        pytest.param(text_of("a")[:-4], id="cut in a line"),
        pytest.param("", id="empty"),
        pytest.param(None, id="deleted"),
        pytest.param("\0" * len(text_of("a", "b")), id="zeros after a power cut"),
        pytest.param(text_of("aa", "b"), id="edited"),
    ],
)
async def test_a_metadata_file_of_a_killed_run_is_repaired(tmp_path: Path, journal: Journal, left: str | None) -> None:
    path = tmp_path / METADATA_NAME
    await keep_images(journal, "a", "b")
    await MetadataFile(journal, tmp_path).flush()
    path.unlink()
    if left is not None:
        path.write_text(left)
    await keep_images(journal, "c")
    await MetadataFile(journal, tmp_path).flush()
    assert path.read_text() == text_of("a", "b", "c")


async def test_lines_whose_position_was_never_committed_are_not_repeated(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = transitions.set_position

    def dies_after_the_lines(connection: Any, name: str, *, seq: int, offset: int) -> None:
        if offset:
            raise ZeroDivisionError
        real(connection, name, seq=seq, offset=offset)

    await keep_images(journal, "a")
    with monkeypatch.context() as dying, pytest.raises(ZeroDivisionError):
        dying.setattr(transitions, "set_position", dies_after_the_lines)
        await MetadataFile(journal, tmp_path).flush()
    assert (tmp_path / METADATA_NAME).read_text() == text_of("a")
    await keep_images(journal, "b")
    assert await MetadataFile(journal, tmp_path).flush() == 2
    assert (tmp_path / METADATA_NAME).read_text() == text_of("a", "b")


async def test_the_position_is_stored_only_after_the_lines_are_on_disk(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = MetadataFile(journal, tmp_path, fsync=True)
    await keep_images(journal, "a")

    def refuse(_: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", refuse)
        with pytest.raises(StoreError, match="Input/output error"):
            await file.flush()
    assert await journal.perform(lambda connection: queries.position(connection, METADATA_NAME)) == (0, 0)
    assert await file.flush() == 1
    assert (tmp_path / METADATA_NAME).read_text() == text_of("a")


async def test_a_metadata_file_of_another_journal_is_not_changed(tmp_path: Path, journal: Journal) -> None:
    path = tmp_path / METADATA_NAME
    path.write_text("another dataset\n")
    await keep_images(journal, "a")
    for _ in range(2):
        with pytest.raises(StoreError, match="not from this journal") as caught:
            await MetadataFile(journal, tmp_path).flush()
        assert caught.value.path == str(path)
    assert path.read_text() == "another dataset\n"


@pytest.mark.parametrize("begun", [True, False])
async def test_a_link_is_not_followed(tmp_path: Path, journal: Journal, *, begun: bool) -> None:
    target, path = tmp_path / "target", tmp_path / METADATA_NAME
    target.write_text("")
    await keep_images(journal, "a")
    if begun:
        await MetadataFile(journal, tmp_path).flush()
        path.unlink()
    path.symlink_to(target)
    (tmp_path / ERRORS_NAME).symlink_to(target)
    with pytest.raises(StoreError):
        await MetadataFile(journal, tmp_path).flush()
    entry = await admit(journal, 3)
    await journal.perform(transitions.done, entry, status="failed", attempts=1)
    with pytest.raises(StoreError, match="is a symbolic link"):
        await ErrorsFile(journal, tmp_path).append(entry.key)
    assert target.read_text() == ""


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="the system has no FIFOs")
async def test_a_fifo_with_the_files_name_is_refused_and_not_waited_for(tmp_path: Path, journal: Journal) -> None:
    os.mkfifo(tmp_path / METADATA_NAME)
    await keep_images(journal, "a")
    with pytest.raises(StoreError, match="not a plain file"):
        await MetadataFile(journal, tmp_path).flush()


async def test_more_lines_than_the_buffer_holds_are_all_written(tmp_path: Path, journal: Journal) -> None:
    names = [f"{number}" * 100_000 for number in range(1, 6)]
    for name in names:
        entry = await admit(journal, int(name[0]))
        await journal.perform(
            transitions.done, entry, status="succeeded", images=[(0, {"file_name": name})], attempts=1
        )
    await MetadataFile(journal, tmp_path).flush()
    assert (tmp_path / METADATA_NAME).read_text() == text_of(*names)


async def test_a_failed_job_is_listed_until_it_succeeds(tmp_path: Path, journal: Journal) -> None:
    errors = ErrorsFile(journal, tmp_path)
    entry = await admit(journal, 4, "fox")
    told = {"type": "RejectedError", "message": "no\x1b[31m", "prompt": "a fox", "request_id": "r", "code": "c"}
    await journal.perform(transitions.done, entry, status="failed", attempts=2, error=told)
    await errors.append(entry.key)
    assert (tmp_path / ERRORS_NAME).read_text() == (
        '{"id": "fox", "line": 4, "status": "failed", "prompt": "a fox", "error": "RejectedError", '
        '"message": "no\\u001b[31m", "request_id": "r", "attempts": 2, "at": 7.0, "code": "c"}\n'
    )
    other = await admit(journal, 5)
    await journal.perform(transitions.done, other, status="filtered", attempts=1)
    await errors.append(other.key)
    await journal.perform(transitions.done, entry, status="succeeded", attempts=3)
    assert [line["line"] for line in error_lines(tmp_path)] == [4, 5]
    assert await errors.rewrite() == 1
    assert [line["line"] for line in error_lines(tmp_path)] == [5]
    await journal.perform(transitions.done, other, status="succeeded", attempts=2)
    assert await errors.rewrite() == 0
    assert not (tmp_path / ERRORS_NAME).exists()
    assert not remains(tmp_path)


async def test_every_doubt_is_reported_also_of_a_job_that_succeeded(tmp_path: Path, journal: Journal) -> None:
    doubts = [
        Doubt(attempt=number, at=1.0, reason="cut off", request_id=f"r{number}", images=3, usd=3 * 0.1)
        for number in (1, 2)
    ]
    for line, status in enumerate(["succeeded", "in_doubt", "succeeded", "failed", "succeeded", "succeeded"], 1):
        entry = await admit(journal, line)
        await journal.perform(transitions.done, entry, status=status, attempts=3)
        for doubt in doubts if line < 6 else ():
            await journal.perform(transitions.doubt, entry, doubt)
    assert await ErrorsFile(journal, tmp_path).rewrite() == 5
    lines = error_lines(tmp_path)
    assert [(line["line"], line["status"]) for line in lines] == [
        (2, "in_doubt"),
        (4, "failed"),
        (1, "in_doubt"),
        (3, "in_doubt"),
        (5, "in_doubt"),
    ]
    assert "succeeded" in lines[2]["message"]
    told = [
        {"attempt": number, "at": 1.0, "request_id": f"r{number}", "images": 3, "usd": 0.3, "message": "cut off"}
        for number in (1, 2)
    ]
    assert all(line["doubts"] == told for line in lines)


async def test_a_rewrite_that_fails_leaves_the_old_file(
    tmp_path: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = ErrorsFile(journal, tmp_path)
    entry = await admit(journal, 1)
    await journal.perform(transitions.done, entry, status="failed", attempts=1)
    await errors.rewrite()
    before = (tmp_path / ERRORS_NAME).read_text()
    (tmp_path / f".{ERRORS_NAME}.new").write_text("of a run that was killed")

    def full(*_: object) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="No space left"):
            await errors.rewrite()
    assert (tmp_path / ERRORS_NAME).read_text() == before
    assert not remains(tmp_path)


async def test_an_unknown_job_has_no_line(tmp_path: Path, journal: Journal) -> None:
    await ErrorsFile(journal, tmp_path).append(bytes(16))
    assert not (tmp_path / ERRORS_NAME).exists()
