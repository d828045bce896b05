"""Steps run in groups, and none is acknowledged before it is durable."""

from __future__ import annotations

import asyncio
import gc
import sqlite3
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from imagen_async.batch.journal import (
    INTENT,
    Admission,
    folder_in_use,
    read_status,
)
from imagen_async.batch.journal.admission import admit
from imagen_async.batch.journal.queries import totals
from imagen_async.batch.journal.schema import connect
from imagen_async.batch.journal.thread import LARGEST_GROUP
from imagen_async.batch.journal.transitions import done, intent
from imagen_async.exceptions import JournalError
from tests.batch.journals import admit_one, digest, open_journal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the journal's thread is made to wait for; open at the end in any case."""
    event = threading.Event()
    yield event
    event.set()


async def test_a_step_that_fails_does_not_affect_the_others(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entries = await journal.perform(admit, [Admission(digest(str(i))) for i in range(20)])
        await journal.perform(done, entries[7], status="succeeded", attempts=1)
        results = await asyncio.gather(
            *(journal.perform(intent, entry, attempt=1, images=1) for entry in entries),
            return_exceptions=True,
        )
        assert [index for index, result in enumerate(results) if result is not None] == [7]
        assert isinstance(results[7], JournalError)
        sums = await journal.perform(totals)
        assert (sums.jobs[INTENT], sums.attempts) == (19, 20)


async def test_a_record_without_a_json_form_fails_its_own_step_only(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        endless: dict[str, object] = {}
        endless["self"] = endless
        with pytest.raises(JournalError, match="cannot be written as JSON"):
            await journal.perform(done, entry, status="succeeded", images=[(0, endless)], attempts=1)
        await journal.perform(done, entry, status="succeeded", images=[(0, {})], attempts=1)


async def test_a_full_disk_fails_all_waiting_steps_and_every_later_one(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        acknowledged = await admit_one(journal, "first")
        await journal.perform(intent, acknowledged, attempt=1, images=1)
        await journal.perform(_no_more_pages)
        entries = await journal.perform(admit, [Admission(digest(str(i)), id="x" * 4000 + str(i)) for i in range(50)])
        results = await asyncio.gather(
            *(journal.perform(intent, entry, attempt=1, images=1) for entry in entries),
            return_exceptions=True,
        )
        assert all(isinstance(result, JournalError) for result in results)
        with pytest.raises(JournalError, match=r"cannot be written \(database or disk is full\)"):
            await journal.perform(totals)
    assert read_status(tmp_path).jobs[INTENT] == 1
    assert not folder_in_use(tmp_path)


def _no_more_pages(connection: sqlite3.Connection) -> None:
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()


async def test_a_closed_journal_refuses_steps_and_can_be_closed_again(tmp_path: Path) -> None:
    journal = await open_journal(tmp_path)
    entry = await admit_one(journal, "fox")
    waiting = asyncio.ensure_future(journal.perform(intent, entry, attempt=1, images=1))
    await asyncio.sleep(0)
    await asyncio.gather(journal.close(), journal.close())
    await waiting
    assert read_status(tmp_path).jobs[INTENT] == 1
    with pytest.raises(JournalError, match="closed"):
        await journal.perform(totals)


async def test_a_cancelled_wait_does_not_undo_the_step(tmp_path: Path, gate: threading.Event) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        held_up = asyncio.ensure_future(journal.perform(lambda _: gate.wait(30)))
        task = asyncio.ensure_future(journal.perform(intent, entry, attempt=1, images=1))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        assert await held_up
        assert (await journal.perform(totals)).jobs[INTENT] == 1


@pytest.mark.parametrize("fails", [False, True])
async def test_a_cancelled_open_unlocks_the_folder_and_leaves_no_unretrieved_error(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    arrived = threading.Event()
    threads: list[threading.Thread] = []

    def slow_connect(path: Path, *, fsync: bool) -> sqlite3.Connection:
        threads.append(threading.current_thread())
        arrived.set()
        gate.wait(30)
        if fails:
            raise JournalError(f"{path} is damaged")
        return connect(path, fsync=fsync)

    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    monkeypatch.setattr("imagen_async.batch.journal.schema.connect", slow_connect)
    task = asyncio.ensure_future(open_journal(tmp_path))
    assert await asyncio.to_thread(arrived.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()  # before the folder is unlocked
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not threads[0].is_alive()
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert complaints == []
    assert not folder_in_use(tmp_path)
    monkeypatch.undo()
    async with await open_journal(tmp_path) as journal:
        assert journal.abandoned == 0


async def test_more_steps_than_one_transaction_takes_are_all_performed(tmp_path: Path, gate: threading.Event) -> None:
    async with await open_journal(tmp_path) as journal:
        entries = await journal.perform(admit, [Admission(i.to_bytes(16, "big")) for i in range(2 * LARGEST_GROUP)])
        held_up = asyncio.ensure_future(journal.perform(lambda _: gate.wait(30)))
        waiting = [asyncio.ensure_future(journal.perform(intent, entry, attempt=1, images=1)) for entry in entries]
        await asyncio.sleep(0)
        closing = asyncio.ensure_future(journal.close())
        await asyncio.sleep(0)
        gate.set()
        await asyncio.gather(held_up, closing, *waiting)
    assert read_status(tmp_path).jobs[INTENT] == 2 * LARGEST_GROUP


async def test_after_a_failed_commit_the_waiting_steps_are_refused(tmp_path: Path, gate: threading.Event) -> None:
    def breaks(_: sqlite3.Connection) -> None:
        gate.wait(30)
        raise sqlite3.OperationalError("disk I/O error")

    journal = await open_journal(tmp_path)
    breaking = asyncio.ensure_future(journal.perform(breaks))
    waiting = [asyncio.ensure_future(journal.perform(totals)) for _ in range(3)]
    await asyncio.sleep(0)
    gate.set()
    results = await asyncio.gather(breaking, *waiting, return_exceptions=True)
    assert ["disk I/O error" in str(result) for result in results] == [True] * 4
    await journal.close()


async def test_a_value_that_sqlite_refuses_fails_its_own_step_only(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entries = await journal.perform(admit, [Admission(digest("huge"), n=1 << 70), Admission(digest("fox"))])
        results = await asyncio.gather(
            *(journal.perform(intent, entry, attempt=1, images=1) for entry in entries),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [OverflowError, type(None)]
        with pytest.raises(JournalError, match="refused a step"):
            await journal.perform(lambda connection: connection.execute("INSERT INTO exports VALUES (NULL, 0, 0)"))
        assert (await journal.perform(totals)).jobs[INTENT] == 1


def test_a_program_that_forgets_to_close_its_journal_ends_quietly(tmp_path: Path) -> None:
    script = (
        "import asyncio, pathlib, sys\n"
        "from imagen_async.batch.journal import Journal, queries\n"
        "async def use():\n"
        "    journal = await Journal.open(pathlib.Path(sys.argv[1]), fsync=False)\n"
        "    await journal.perform(queries.totals)\n"
        "    return journal\n"
        "journal = asyncio.run(use())\n"
    )
    command = [sys.executable, "-W", "error", "-c", script, str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, timeout=60, check=False)  # noqa: S603 - our own script
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, b"", b"")
    assert not folder_in_use(tmp_path)


@pytest.mark.parametrize("error", [SystemExit, StopIteration])
async def test_no_error_of_a_step_ends_the_thread(
    tmp_path: Path, gate: threading.Event, error: type[BaseException]
) -> None:
    def stops(_: sqlite3.Connection) -> None:
        gate.wait(30)
        raise error

    async with await open_journal(tmp_path) as journal:
        first = asyncio.ensure_future(journal.perform(stops))
        second = asyncio.ensure_future(journal.perform(totals))
        await asyncio.sleep(0)
        gate.set()
        with pytest.raises(JournalError, match=error.__name__):
            await first
        assert (await second).images == 0
