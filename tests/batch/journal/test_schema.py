"""What the journal does with files that it cannot trust."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async.batch.journal import (
    Admission,
    Journal,
    admission,
    folder_in_use,
    queries,
    read_status,
    transitions,
)
from imagen_async.batch.journal.lock import LOCK_NAME, held
from imagen_async.batch.journal.schema import JOURNAL_NAME
from imagen_async.exceptions import JournalError

if TYPE_CHECKING:
    from collections.abc import Callable

VERSION_2 = Path(__file__).with_name("version_2.sql")
"""A journal of release 0.1 with four jobs: one succeeded, one interrupted, one killed in flight, one damaged."""


async def used_journal(folder: Path) -> Path:
    """Make a journal with some hundred jobs."""
    async with await Journal.open(folder, fsync=False) as journal:
        entries = await journal.perform(
            admission.admit, [Admission(i.to_bytes(16, "big"), id=f"job {i}") for i in range(300)]
        )
        for entry in entries:
            await journal.perform(transitions.done, entry, status="failed", attempts=1, error={"message": "no" * 50})
    return folder / JOURNAL_NAME


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


async def refusal(folder: Path) -> str:
    with pytest.raises(JournalError) as caught:
        await Journal.open(folder, fsync=False)
    assert not folder_in_use(folder)
    return caught.value.message


async def test_missing_parent_folders_are_made(tmp_path: Path) -> None:
    async with await Journal.open(tmp_path / "a" / "b ?#%" / ".imagen") as journal:
        await journal.perform(queries.totals)
    assert sum(read_status(tmp_path / "a" / "b ?#%" / ".imagen").jobs.values()) == 0


async def test_a_closed_journal_is_one_file_and_its_lock(tmp_path: Path) -> None:
    await used_journal(tmp_path)
    assert names_in(tmp_path) == [JOURNAL_NAME, "lock.sqlite"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "it is empty"), (b"once upon a time\n" * 300, "not a database"), (b"SQLite format 3\0" + bytes(4080), "")],
)
async def test_a_file_that_is_not_a_journal_is_refused_and_not_changed(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / JOURNAL_NAME
    path.write_bytes(content)
    assert reason in await refusal(tmp_path)
    with pytest.raises(JournalError):
        read_status(tmp_path)
    assert path.read_bytes() == content


async def test_a_foreign_database_is_refused_and_not_changed(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL_NAME
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE jobs (key)")
    before = path.read_bytes()
    assert "not a journal of imagen-async" in await refusal(tmp_path)
    assert path.read_bytes() == before


async def test_a_newer_format_is_refused_with_the_advice_to_update(tmp_path: Path) -> None:
    path = await used_journal(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "update" in await refusal(tmp_path)
    with pytest.raises(JournalError, match="format 99"):
        read_status(tmp_path)


async def test_a_journal_of_version_2_can_be_read_and_is_migrated_by_a_run(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / JOURNAL_NAME)) as connection:
        connection.executescript(VERSION_2.read_text(encoding="utf-8"))
    before = read_status(tmp_path)
    assert (before.jobs["succeeded"], before.jobs["intent"], before.doubts, before.unanswered.requests) == (1, 1, 3, 1)
    items = [Admission(number.to_bytes(16, "big")) for number in range(4)]
    async with await Journal.open(tmp_path, fsync=False) as journal:
        succeeded, interrupted, killed, damaged = await journal.perform(admission.admit, items)
        # Those before a success count no more: that of the damaged image is one of them.
        assert [entry.in_doubt for entry in (succeeded, interrupted, killed, damaged)] == [0, 1, 1, 0]
        await journal.perform(transitions.intent, interrupted, attempt=1, images=1, key="K")
    async with await Journal.open(tmp_path, fsync=False) as journal:
        entry = (await journal.perform(admission.admit, items))[1]
        assert (entry.in_doubt, entry.idempotency_key) == (2, "K")
    assert read_status(tmp_path).doubts == 5


async def test_a_journal_without_one_of_its_tables_is_refused(tmp_path: Path) -> None:
    path = await used_journal(tmp_path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TABLE doubts")
    assert "no such table: doubts" in await refusal(tmp_path)


@pytest.mark.parametrize("lost", [1, 4096, 60_000])
async def test_a_copy_that_was_cut_short_is_refused(tmp_path: Path, lost: int) -> None:
    path = await used_journal(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[:-lost])
    message = await refusal(tmp_path)
    assert f"{len(content) - lost} of {len(content)} bytes" in message or "malformed" in message


def test_a_folder_without_a_run_is_not_in_use(tmp_path: Path) -> None:
    assert not folder_in_use(tmp_path)


async def test_a_missing_journal_with_a_log_is_not_replaced_by_a_new_one(tmp_path: Path) -> None:
    (tmp_path / f"{JOURNAL_NAME}-wal").write_bytes(b"x")
    assert "missing" in await refusal(tmp_path)
    assert not (tmp_path / JOURNAL_NAME).exists()


async def test_files_of_a_killed_creation_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / f"{JOURNAL_NAME}.new").write_bytes(b"half a jour")
    (tmp_path / f"{JOURNAL_NAME}.new-journal").write_bytes(b"half of its journal")
    await used_journal(tmp_path)
    assert read_status(tmp_path).jobs["failed"] == 300


async def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(JournalError, match="cannot be made"):
        await Journal.open(tmp_path / "file" / "sub")


async def test_a_damaged_lock_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lock.sqlite").write_bytes(b"once upon a time\n" * 300)
    with pytest.raises(JournalError, match="cannot be locked"):
        await Journal.open(tmp_path)
    with pytest.raises(JournalError, match="cannot be read"):
        folder_in_use(tmp_path)


async def test_an_old_sqlite_is_refused_with_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 31, 1))
    assert "needs SQLite 3.37" in await refusal(tmp_path)


def test_reading_a_status_without_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal here"):
        read_status(tmp_path)


async def test_the_status_can_be_read_where_sqlite_cannot_write_beside_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = await used_journal(tmp_path)
    real = sqlite3.connect

    class Refusing(sqlite3.Connection):
        """What SQLite answers on read-only media, where it cannot make its shared memory file."""

        def execute(self, *_: object) -> sqlite3.Cursor:
            raise sqlite3.OperationalError("unable to open database file")

    def connect(address: str, **options: Any) -> sqlite3.Connection:
        kind = sqlite3.Connection if "immutable" in address else Refusing
        return real(address, factory=kind, **options)

    monkeypatch.setattr(sqlite3, "connect", connect)
    assert read_status(tmp_path).jobs["failed"] == 300
    path.with_name(f"{JOURNAL_NAME}-wal").write_bytes(b"something that is not in the file yet")
    with pytest.raises(JournalError, match="unable to open"):
        read_status(tmp_path)


def test_a_lock_file_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / LOCK_NAME).touch()

    def reading(path: Path, **options: Any) -> sqlite3.Connection:
        # As SQLite does by itself where it may not write; a test that is run by root may always.
        return connect(f"{path.as_uri()}?mode=ro", uri=True, **options)

    connect: Callable[..., sqlite3.Connection] = sqlite3.connect
    with monkeypatch.context() as patched:
        patched.setattr(sqlite3, "connect", reading)
        with pytest.raises(JournalError, match="the folder cannot be locked"), held(tmp_path):
            pass
