"""Journals cut short and with garbage in them: a run refuses them without a change, or continues from their rows.

Two states are damaged: as a run leaves its folder, and as ``kill -9`` leaves it, with half of what happened in the log.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.journal import (
    Admission,
    Doubt,
    Journal,
    admission,
    folder_in_use,
    read_newest_doubts,
    read_status,
    soundness,
    transitions,
)
from imagen_async.batch.journal.schema import JOURNAL_NAME
from imagen_async.exceptions import JournalError

if TYPE_CHECKING:
    from collections.abc import Iterator

Files = dict[str, bytes]
Rows = dict[str, list[tuple[Any, ...]]]

MAIN = JOURNAL_NAME
LOG = f"{JOURNAL_NAME}-wal"
FRAME = 24 + 4096
STATES = ["succeeded", "partial", "failed", "filtered", "in_doubt", "interrupted"]


@attrs.frozen
class Left:
    """The files that a run left, and the rows in them before and after its last transaction."""

    files: Files
    before: Rows
    after: Rows


async def work(journal: Journal, numbers: range) -> None:
    """Run jobs that end in every way, each in transactions of its own."""
    items = [Admission(n.to_bytes(16, "big"), id=f"job {n}", line=n, n=2) for n in numbers]
    for entry in await journal.perform(admission.admit, items):
        await journal.perform(transitions.intent, entry, attempt=1, images=2, usd=0.08)
        status = STATES[entry.line % len(STATES)]
        kept = {"succeeded": 2, "partial": 1}.get(status, 0)
        images = [(i, {"file_name": f"{entry.line}-{i}.png", "bytes": 1000, "prompt": "x" * 300}) for i in range(kept)]
        await journal.perform(transitions.done, entry, status=status, images=images, attempts=1)
        if status == "in_doubt":
            await journal.perform(transitions.doubt, entry, Doubt(attempt=1, at=1.0, reason="lost", images=2, usd=0.08))


def rows_of(connection: sqlite3.Connection) -> Rows:
    tables = ("jobs", "images", "doubts", "totals", "exports", "withdrawn")
    return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}  # noqa: S608 - ours


def files_in(folder: Path) -> Files:
    """Return the durable files of a folder: SQLite makes a missing shared memory file, and an empty log is none."""
    kept = [path for path in folder.iterdir() if not path.name.startswith("lock") and not path.name.endswith("-shm")]
    return {path.name: path.read_bytes() for path in kept if path.name != LOG or path.stat().st_size}


def put(folder: Path, files: Files) -> Path:
    """Make `folder` hold these files and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of openings, none of which is to survive a power cut."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """A folder as a run leaves it that has ended well."""
    return asyncio.run(ended_well(tmp_path_factory.mktemp("closed")))


async def ended_well(folder: Path) -> Left:
    async with await Journal.open(folder, fsync=False) as journal:
        await work(journal, range(60))
        rows = await journal.perform(rows_of)
    return Left(files_in(folder), rows, rows)


@pytest.fixture(scope="module")
def killed(tmp_path_factory: pytest.TempPathFactory) -> Left:
    """A folder as ``kill -9`` leaves it: 60 jobs in the file, four and an intent in the log."""
    return asyncio.run(cut_off(tmp_path_factory.mktemp("killed")))


async def cut_off(folder: Path) -> Left:
    async with await Journal.open(folder, fsync=False) as journal:
        await work(journal, range(60))
    async with await Journal.open(folder, fsync=False) as journal:
        await work(journal, range(60, 64))
        before = await journal.perform(rows_of)
        [entry] = await journal.perform(admission.admit, [Admission(bytes([9] * 16), id="the last", line=99)])
        await journal.perform(transitions.intent, entry, attempt=1, images=1, usd=0.04)
        files, after = files_in(folder), await journal.perform(rows_of)
    return Left(files, before, after)


def taken_up(folder: Path) -> Rows:
    """Open the journal as a run does, without a thread, and return its rows; what was in flight is so no more.

    Raises:
        JournalError: It was refused; then nothing in the folder has changed and it is not locked.
    """
    found = files_in(folder)
    try:
        with asyncio.Runner() as runner:
            return runner.run(rows_in(folder))
    except JournalError as refused:
        assert files_in(folder) == found
        assert str(folder) in refused.message
        assert JOURNAL_NAME in refused.message
        assert not folder_in_use(folder)
        raise


async def rows_in(folder: Path) -> Rows:
    with Journal(folder, fsync=False).session() as connection:
        connection.text_factory = lambda text: text.decode(errors="replace")
        return rows_of(connection)


def statuses(rows: Rows) -> dict[bytes, str]:
    """What became of each job; what was in flight is interrupted."""
    return {job[1]: "interrupted" if job[6] == "intent" else job[6] for job in rows["jobs"]}


def opens(folder: Path) -> Rows | None:
    """Take the journal up, or return None if it is refused; readers of the folder end without a traceback as well."""
    with suppress(JournalError):
        read_status(folder)
        read_newest_doubts(folder, running=False, limit=5)
    (folder / f"{MAIN}-shm").unlink(missing_ok=True)
    try:
        return taken_up(folder)
    except JournalError:
        return None


def test_an_undamaged_journal_opens_with_all_of_its_rows(tmp_path: Path, left: Left, killed: Left) -> None:
    assert taken_up(put(tmp_path / "left", left.files)) == left.after
    assert statuses(taken_up(put(tmp_path / "killed", killed.files))) == statuses(killed.after)


def test_a_file_cut_at_any_byte_of_its_last_pages_is_refused(tmp_path: Path, left: Left) -> None:
    folder = put(tmp_path / "cut", left.files)
    size = len(left.files[MAIN])
    for length in range(size - 1, size - 2 * 4096 - 1, -1):
        os.truncate(folder / MAIN, length)
        with pytest.raises(JournalError, match=f"{length} of {size} bytes|malformed"):
            soundness.check(folder / MAIN)
    assert opens(folder) is None


def test_a_file_cut_at_any_page_is_refused_if_it_has_a_log(tmp_path: Path, killed: Left) -> None:
    content = killed.files[MAIN]
    for length in range(0, len(content), 4096):
        found = opens(put(tmp_path / "cut", {**killed.files, MAIN: content[:length]}))
        # The log has newer copies of some of the last pages, and may have them all.
        assert found is None or (length > len(content) // 2 and statuses(found) == statuses(killed.after))


def test_a_log_cut_anywhere_in_its_last_transaction_leaves_the_state_before_it(tmp_path: Path, killed: Left) -> None:
    content = killed.files[LOG]
    begin = last_transaction(content)
    for length in range(begin, len(content), 97):
        found = opens(put(tmp_path / "cut", {**killed.files, LOG: content[:length]}))
        assert found is not None
        assert statuses(found) == statuses(killed.before)


@given(data=st.data())
def test_a_page_of_garbage_is_refused_or_loses_no_job(left: Left, data: st.DataObject) -> None:
    content = bytearray(left.files[MAIN])
    page = data.draw(st.integers(0, len(content) // 4096 - 1)) * 4096
    content[page : page + 4096] = data.draw(
        st.sampled_from([bytes(4096), b"\xff" * 4096, Random(page).randbytes(4096)])
    )
    with emptied() as folder:
        found = opens(put(folder, {MAIN: bytes(content)}))
    assert found is None or statuses(found) == statuses(left.after)


@given(data=st.data())
def test_flipped_bits_end_in_a_refusal_or_a_journal_that_opens(left: Left, killed: Left, data: st.DataObject) -> None:
    """Nothing else leaves: no traceback of SQLite's, and no folder that stays locked."""
    state, name = data.draw(st.sampled_from([(left, MAIN), (killed, MAIN), (killed, LOG)]))
    content = bytearray(state.files[name])
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(places(content))] ^= 1 << data.draw(st.integers(0, 7))
    with emptied() as folder:
        opens(put(folder, {**state.files, name: bytes(content)}))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ("DELETE FROM jobs WHERE job = 7", "images of jobs|succeeded"),
        ("DELETE FROM doubts", "doubts: 0 are there, 10 were counted"),
        ("UPDATE totals SET images = images + 1", "images"),
        ("UPDATE totals SET failed = 3", "failed"),
    ],
)
def test_lost_rows_and_lost_counts_are_refused(tmp_path: Path, left: Left, change: str, what: str) -> None:
    folder = put(tmp_path / "lost", left.files)
    with closing(sqlite3.connect(folder / MAIN, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        connection.execute(change)
    with pytest.raises(JournalError, match=what):
        taken_up(folder)


async def test_the_refusal_names_the_file_and_what_to_do(tmp_path: Path, left: Left) -> None:
    folder = put(tmp_path / "cut", {MAIN: left.files[MAIN][:-5]})
    with pytest.raises(JournalError, match=r"journal\.sqlite: it is damaged.* Restore it from a copy, or move all"):
        await Journal.open(folder, fsync=False)
    assert not folder_in_use(folder)


async def test_a_folder_with_the_journals_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / MAIN).mkdir()
    with pytest.raises(JournalError, match="not a file"):
        await Journal.open(tmp_path, fsync=False)
    with pytest.raises(JournalError, match=JOURNAL_NAME):
        read_status(tmp_path)


def last_transaction(log: bytes) -> int:
    """Where the last transaction of a log begins: a frame that ends one says how large the database is."""
    ends = [end for end in range(32 + FRAME, len(log) + 1, FRAME) if any(log[end - FRAME + 4 : end - FRAME + 8])]
    return ends[-2]


def places(content: bytes | bytearray) -> st.SearchStrategy[int]:
    """Any byte; half of them near the beginning of a page, where its structure is."""
    near = st.builds(
        lambda page, byte: min(page * 4096 + byte, len(content) - 1), st.integers(0, 40), st.integers(0, 60)
    )
    return st.integers(0, len(content) - 1) | near


@contextmanager
def emptied() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder) / "it"
