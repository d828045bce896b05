"""What the journal promises to a batch."""

from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import os
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagen_async.batch.journal import (
    INTENT,
    INTERRUPTED,
    Admission,
    Doubt,
    Entry,
    Journal,
    Unanswered,
    folder_in_use,
    read_newest_doubts,
    read_status,
)
from imagen_async.batch.journal.admission import admit, begin_run
from imagen_async.batch.journal.queries import history, images_by_model, totals
from imagen_async.batch.journal.schema import connect
from imagen_async.batch.journal.thread import LARGEST_GROUP
from imagen_async.batch.journal.transitions import adopt, done, doubt, intent, never_sent, withdraw
from imagen_async.exceptions import JournalError, JournalLockedError
from tests.batch.journals import doubts_in, failures_in
from tests.profiles import times

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def doubt_of(attempt: int, *, images: int = 1, usd: float = 0.04) -> Doubt:
    reason = "the read timeout expired"
    return Doubt(attempt=attempt, at=5.0, reason=reason, request_id="req-1", images=images, usd=usd)


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What the journal's thread is made to wait for; open at the end in any case."""
    event = threading.Event()
    yield event
    event.set()


async def open_journal(folder: Path) -> Journal:
    return await Journal.open(folder, fsync=False, clock=lambda: 100.0)


async def admit_one(journal: Journal, name: str, *, job_id: str | None = None, line: int = 1, n: int = 1) -> Entry:
    [entry] = await journal.perform(admit, [Admission(digest(name), id=job_id, line=line, n=n)])
    return entry


async def readmitted(folder: Path, names: Sequence[str]) -> list[Entry]:
    async with await open_journal(folder) as journal:
        return await journal.perform(admit, [Admission(digest(name)) for name in names])


async def test_a_job_that_was_reported_done_is_done_after_reopening(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox", n=2)
        assert (entry.status, entry.images, entry.attempts) == (None, 0, 0)
        await journal.perform(intent, entry, attempt=1, images=1)
        await journal.perform(done, entry, status="succeeded", images=[(0, {"a": 1}), (1, {"a": 2})], attempts=1)
    [again] = await readmitted(tmp_path, ["fox"])
    assert (again.status, again.images, again.attempts) == ("succeeded", 2, 1)
    assert (again.key, again.stem) == (entry.key, entry.stem)


async def test_admission_alone_writes_no_row(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        await admit_one(journal, "fox", job_id="fox")
        assert sum((await journal.perform(totals)).jobs.values()) == 0


async def test_equal_requests_are_numbered_and_keep_their_numbers_in_another_order(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        items = [Admission(digest(name)) for name in ("fox", "owl", "fox", "fox")]
        entries = [
            *await journal.perform(admit, items[:2]),
            *await journal.perform(admit, items[2:]),
        ]
        assert len({entry.key for entry in entries}) == 4
        await journal.perform(done, entries[2], status="failed", attempts=1)
    again = await readmitted(tmp_path, ["fox", "fox", "owl", "new", "fox"])
    assert [entry.status for entry in again] == [None, "failed", None, None, None]
    assert {entry.key for entry in entries} <= {entry.key for entry in again}


@example([7] * 4, [1, 2])
@given(st.lists(st.integers(0, 30), max_size=700), st.lists(st.integers(1, 300), max_size=5))
@times(0.1)
def test_equal_jobs_get_the_same_numbers_however_the_input_is_grouped(names: list[int], sizes: list[int]) -> None:
    def grouped(sizes: Sequence[int]) -> list[bytes]:
        with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
            columns = (
                "key BLOB, stem TEXT, status TEXT, images INTEGER, attempts INTEGER, in_doubt INTEGER, asked_key TEXT"
            )
            connection.execute(f"CREATE TABLE jobs ({columns})")
            begin_run(connection)
            rest = iter([Admission(digest(str(name))) for name in names])
            groups = [list(islice(rest, size)) for size in sizes] + [list(rest)]
            return [entry.key for group in groups for entry in admit(connection, group)]

    times_seen: Counter[int] = Counter()
    expected = []
    for name in names:
        earlier = times_seen[name]
        expected.append(digest(str(name)) + (earlier.to_bytes(4, "big") if earlier else b""))
        times_seen[name] += 1
    assert grouped(sizes) == grouped([1] * len(names)) == expected


async def test_more_jobs_than_one_query_takes_are_each_found(tmp_path: Path) -> None:
    names = [str(number) for number in range(700)]
    async with await open_journal(tmp_path) as journal:
        entries = await journal.perform(admit, [Admission(digest(name)) for name in names])
        for attempts, entry in enumerate(entries[::7], 1):
            await journal.perform(done, entry, status="failed", attempts=attempts)
    again = await readmitted(tmp_path, names)
    assert [entry.key for entry in again] == [digest(name) for name in names]
    assert [entry.attempts for entry in again[::7]] == list(range(1, 101))
    assert [entry.status for entry in again] == [None if place % 7 else "failed" for place in range(700)]


async def test_an_id_names_the_files_and_a_second_job_with_it_gets_another_name(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        names = ("fox", "fox", "owl")
        entries = await journal.perform(admit, [Admission(digest(name), id="a/b") for name in names])
        assert entries[0].stem == "a/b"
        assert entries[2].stem == f"a/b~{entries[2].key.hex()[:8]}"
        assert len({entry.stem for entry in entries}) == 3
        for entry in entries:
            await journal.perform(intent, entry, attempt=1, images=1)
    async with await open_journal(tmp_path) as journal:
        # In another order: each job keeps its stem.
        again = await journal.perform(
            admit, [Admission(digest(name), id="a/b") for name in ("owl", "new", "fox", "fox")]
        )
        assert [again[0].stem, again[2].stem, again[3].stem] == [entries[2].stem, entries[0].stem, entries[1].stem]
        assert again[1].stem not in {entry.stem for entry in entries}


async def test_an_id_that_looks_like_a_key_does_not_take_that_keys_name(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        thief, owner = await journal.perform(
            admit, [Admission(digest("x"), id=digest("fox").hex()), Admission(digest("fox"))]
        )
        assert owner.stem == digest("fox").hex()
        assert thief.stem != owner.stem


async def test_ids_that_equal_each_others_second_names_still_differ(tmp_path: Path) -> None:
    short, full = (f"a~{digest('fox').hex()[:length]}" for length in (8, 32))
    ids = ["a", short, full, "a"]
    async with await open_journal(tmp_path) as journal:
        entries = await journal.perform(
            admit, [Admission(digest(name), id=job_id) for name, job_id in zip("123", ids, strict=False)]
        )
        entries += await journal.perform(admit, [Admission(digest("fox"), id="a")])
        assert len({entry.stem for entry in entries}) == 4


async def test_ids_that_sqlite_cannot_store_still_differ(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entries = await journal.perform(
            admit, [Admission(bytes([i] * 16), id=c) for i, c in enumerate(("\ud800", "\ud801", "a\0b", "a"))]
        )
        for entry in entries:
            await journal.perform(intent, entry, attempt=1, images=1)
        assert len({entry.stem for entry in entries}) == 4


async def test_a_digest_of_another_length_is_refused(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        with pytest.raises(JournalError, match="16 bytes, not 3"):
            await journal.perform(admit, [Admission(b"abc")])


async def test_a_request_in_flight_at_a_kill_is_in_doubt_once_and_its_job_interrupted(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox", job_id="fox", line=7, n=3)
        await journal.perform(intent, entry, attempt=1, images=3, usd=0.12)
        await journal.perform(doubt, entry, doubt_of(1, images=2, usd=0.08))
        await journal.perform(intent, entry, attempt=2, images=2, usd=0.08)
    for died in (1, 0):  # closing without an end is like dying
        async with await Journal.open(tmp_path, fsync=False, clock=lambda: 900.0) as journal:
            assert journal.abandoned == died
            listed = await doubts_in(journal)
            assert listed[0].doubt == doubt_of(1, images=2, usd=0.08)
            left = listed[1].doubt
            # When it was sent, which the gateway's records contain; not when the doubt was found.
            assert (left.attempt, left.at, left.request_id, left.images, left.usd) == (2, 100.0, None, 2, 0.08)
            assert "in flight" in left.reason
            assert (listed[1].id, listed[1].line) == ("fox", 7)
            sums = await journal.perform(totals)
            assert (sums.doubts, sums.doubtful_images, sums.doubtful_usd) == (2, 4, 0.16)
            assert sums.unanswered == Unanswered(requests=0, images=0, usd=0.0)


async def test_a_job_killed_between_two_attempts_is_in_doubt_for_the_first_one_only(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox", n=3)
        await journal.perform(intent, entry, attempt=1, images=3, usd=0.12)
        await journal.perform(doubt, entry, doubt_of(1, images=1))
        assert (await journal.perform(totals)).unanswered.requests == 0
    async with await open_journal(tmp_path) as journal:
        assert [each.doubt for each in await doubts_in(journal)] == [doubt_of(1, images=1)]


async def test_readers_list_a_killed_runs_requests_as_the_doubts_they_become(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entries = await journal.perform(admit, [Admission(digest(str(i)), id=f"job{i}", line=i, n=2) for i in range(4)])
        for entry in entries:
            await journal.perform(intent, entry, attempt=1, images=2, usd=0.08)
        await journal.perform(doubt, entries[0], doubt_of(1))
        await journal.perform(never_sent, entries[1])
        running = read_newest_doubts(tmp_path, running=True, limit=9)
        assert [each.id for each in running] == ["job0"]
    before = read_status(tmp_path)
    assert before.unanswered == Unanswered(requests=2, images=4, usd=0.16)
    assert (before.doubts, before.doubtful_images, before.doubtful_usd) == (1, 1, 0.04)
    told = read_newest_doubts(tmp_path, running=False, limit=9)
    assert [each.id for each in told] == ["job2", "job3", "job0"]
    async with await open_journal(tmp_path) as journal:
        listed = [each.doubt for each in await doubts_in(journal)]
        assert [each.doubt for each in told] == [*listed[1:], listed[0]]
    after = read_status(tmp_path)
    assert (after.doubts, after.doubtful_images, after.doubtful_usd) == (3, 5, 0.2)


@pytest.mark.parametrize("limit", [0, 1, 3, 5])
async def test_the_newest_doubts_are_read_first_up_to_the_limit(tmp_path: Path, limit: int) -> None:
    async with await open_journal(tmp_path) as journal:
        entries = await journal.perform(admit, [Admission(digest(str(i)), line=i) for i in range(5)])
        for entry in entries:
            await journal.perform(intent, entry, attempt=1, images=1)
        for entry in entries[:3]:
            await journal.perform(doubt, entry, doubt_of(1))
    told = read_newest_doubts(tmp_path, running=False, limit=limit)
    assert [each.line for each in told] == [3, 4, 2, 1, 0][:limit]


async def test_attempts_are_numbered_over_all_runs(tmp_path: Path) -> None:
    for run in range(3):
        async with await open_journal(tmp_path) as journal:
            entry = await admit_one(journal, "fox")
            assert entry.attempts == 2 * run
            for attempt in (1, 2):
                await journal.perform(intent, entry, attempt=attempt, images=1)
                await journal.perform(doubt, entry, doubt_of(attempt))
            await journal.perform(done, entry, status="in_doubt", attempts=2)
            await journal.perform(doubt, entry, doubt_of(2))
            assert [d.doubt.attempt for d in await doubts_in(journal)] == list(range(1, 2 * run + 3))
            assert (await journal.perform(totals)).attempts == 2 * run + 2


async def test_a_new_job_whose_request_never_left_is_forgotten(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(intent, entry, attempt=1, images=1)
        await journal.perform(never_sent, entry)
        await journal.perform(never_sent, entry)
        sums = await journal.perform(totals)
        assert (sum(sums.jobs.values()), sums.attempts) == (0, 0)
    [again] = await readmitted(tmp_path, ["fox"])
    assert again.status is None


@pytest.mark.parametrize("status", ["failed", "partial", INTERRUPTED])
async def test_an_old_job_whose_request_never_left_keeps_its_state(tmp_path: Path, status: str) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(done, entry, status=status, images=[(0, {})], attempts=3, error={"message": "no"})
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(intent, entry, attempt=1, images=1)
        await journal.perform(never_sent, entry)
        [failure] = await failures_in(journal)
        assert (failure.status, failure.attempts, failure.error) == (status, 3, {"message": "no"})


async def test_a_doubt_is_not_forgotten_with_a_later_attempt_that_never_left(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(intent, entry, attempt=1, images=1)
        await journal.perform(doubt, entry, doubt_of(1))
        await journal.perform(intent, entry, attempt=2, images=1)
        await journal.perform(never_sent, entry)
    [again] = await readmitted(tmp_path, ["fox"])
    assert (again.status, again.attempts) == (INTERRUPTED, 1)


async def test_a_doubt_keeps_its_number_when_its_intent_is_removed(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(intent, entry, attempt=1, images=1)
        await journal.perform(doubt, entry, doubt_of(1))
        await journal.perform(never_sent, entry)
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(intent, entry, attempt=1, images=1)
        await journal.perform(doubt, entry, doubt_of(1))
        assert [listed.doubt.attempt for listed in await doubts_in(journal)] == [1, 2]


async def test_a_doubt_without_an_intent_is_refused(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        with pytest.raises(JournalError, match="no intent"):
            await journal.perform(doubt, await admit_one(journal, "fox"), doubt_of(1))


async def test_a_job_that_succeeded_takes_no_intent_and_cannot_fail(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(done, entry, status="succeeded", images=[(0, {"a": 1})], attempts=1)
        with pytest.raises(JournalError, match="succeeded already"):
            await journal.perform(intent, entry, attempt=2, images=1)
        with pytest.raises(JournalError, match="cannot become failed"):
            await journal.perform(done, entry, status="failed", attempts=1)
        await journal.perform(done, entry, status="succeeded", images=[(0, {"a": 1})], attempts=1)
        sums = await journal.perform(totals)
        assert (sums.jobs["succeeded"], sums.images) == (1, 1)


async def test_an_image_is_recorded_once(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox", n=2)
        await journal.perform(done, entry, status="partial", images=[(1, {"bytes": 10})], attempts=1)
        with pytest.raises(JournalError, match="another image 1"):
            await journal.perform(done, entry, status="succeeded", images=[(0, {}), (1, {"bytes": 11})], attempts=1)
        assert [index for index, _ in (await journal.perform(history, entry.key)).images] == [1]
        await journal.perform(
            done, entry, status="succeeded", images=[(0, {"bytes": 5}), (1, {"bytes": 10})], attempts=2
        )
        kept = await journal.perform(history, entry.key)
        assert kept.images == ((0, {"bytes": 5}), (1, {"bytes": 10}))
        sums = await journal.perform(totals)
        assert (sums.images, sums.bytes) == (2, 15)


@pytest.mark.parametrize("status", ["skipped", INTENT, "nonsense"])
async def test_only_a_final_status_ends_a_job(tmp_path: Path, status: str) -> None:
    async with await open_journal(tmp_path) as journal:
        with pytest.raises(JournalError, match="not an end"):
            await journal.perform(done, await admit_one(journal, "fox"), status=status, attempts=1)


async def test_failures_are_listed_by_line_and_doubts_by_age(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        # Equal lines: two inputs may have been used on one folder.
        entries = await journal.perform(admit, [Admission(digest(str(i)), line=9 - i // 3) for i in range(10)])
        for entry in entries:
            await journal.perform(done, entry, status="in_doubt", attempts=1, error={"type": "T"})
            await journal.perform(doubt, entry, doubt_of(1))
        winner = await admit_one(journal, "winner")
        await journal.perform(done, winner, status="succeeded", attempts=2)
        await journal.perform(doubt, winner, doubt_of(1))
        failures = await failures_in(journal)
        assert [failure.line for failure in failures] == sorted(entry.line for entry in entries)
        assert all(failure.error == {"type": "T"} and failure.doubts == (doubt_of(1),) for failure in failures)
        assert [listed.line for listed in await doubts_in(journal)] == [entry.line for entry in (*entries, winner)]


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


async def test_a_second_run_in_this_process_is_refused_and_the_first_continues(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        assert folder_in_use(tmp_path)
        with pytest.raises(JournalLockedError, match="another run is using"):
            await open_journal(tmp_path)
        await journal.perform(intent, await admit_one(journal, "fox"), attempt=1, images=1)
        with pytest.raises(JournalLockedError):
            await open_journal(tmp_path)
    assert not folder_in_use(tmp_path)
    async with await open_journal(tmp_path) as journal:
        assert journal.abandoned == 1


async def test_the_status_can_be_read_during_a_run_and_after_it(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entries = await journal.perform(admit, [Admission(digest(str(i))) for i in range(3)])
        await journal.perform(intent, entries[0], attempt=1, images=1)
        await journal.perform(done, entries[1], status="succeeded", images=[(0, {"bytes": 9})], attempts=1)
        await journal.perform(done, entries[2], status="in_doubt", attempts=2)
        await journal.perform(doubt, entries[2], doubt_of(2))
        expected = await journal.perform(totals)
        assert await asyncio.to_thread(read_status, tmp_path) == expected
        assert {state: count for state, count in expected.jobs.items() if count} == {
            INTENT: 1,
            "succeeded": 1,
            "in_doubt": 1,
        }
        assert (expected.images, expected.bytes, expected.attempts, expected.doubts) == (1, 9, 4, 1)
        assert (expected.doubtful_images, expected.doubtful_usd, expected.unanswered.images) == (1, 0.04, 1)
    assert read_status(tmp_path) == expected


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


async def test_a_cancelled_open_unlocks_the_folder(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = threading.Event()
    threads: list[threading.Thread] = []

    def slow_connect(path: Path, *, fsync: bool) -> sqlite3.Connection:
        threads.append(threading.current_thread())
        arrived.set()
        gate.wait(30)
        return connect(path, fsync=fsync)

    monkeypatch.setattr("imagen_async.batch.journal.schema.connect", slow_connect)
    task = asyncio.ensure_future(open_journal(tmp_path))
    assert await asyncio.to_thread(arrived.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()  # before the folder is free
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not folder_in_use(tmp_path)
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


async def test_the_repr_names_the_folder_only(tmp_path: Path) -> None:
    async with await open_journal(tmp_path / "out") as journal:
        assert repr(journal) == f"Journal({str(tmp_path / 'out')!r})"


async def test_a_cancelled_open_that_fails_leaves_no_unretrieved_error(
    tmp_path: Path, gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    arrived = threading.Event()
    threads: list[threading.Thread] = []

    def failing_connect(path: Path, *, fsync: bool) -> sqlite3.Connection:
        threads.append(threading.current_thread())
        arrived.set()
        gate.wait(30)
        raise JournalError(f"{path} is damaged, fsync {fsync}")

    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    monkeypatch.setattr("imagen_async.batch.journal.schema.connect", failing_connect)
    task = asyncio.ensure_future(open_journal(tmp_path))
    assert await asyncio.to_thread(arrived.wait, 30)
    for _ in range(3):
        task.cancel()
        await asyncio.sleep(0)
        assert not task.done()  # before the folder is free
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not threads[0].is_alive()
    await asyncio.sleep(0)
    del task
    gc.collect()
    assert complaints == []
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


async def test_the_end_of_a_job_never_lowers_its_number_of_requests(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(intent, entry, attempt=2, images=1)
        await journal.perform(done, entry, status="succeeded", attempts=1)
        assert (await journal.perform(totals)).attempts == 2


@pytest.mark.parametrize(("fsync", "level"), [(True, 2), (False, 1)])
async def test_commits_wait_for_the_disk_unless_fsync_is_off(tmp_path: Path, *, fsync: bool, level: int) -> None:
    async with await Journal.open(tmp_path, fsync=fsync) as journal:
        rows = await journal.perform(lambda connection: connection.execute("PRAGMA synchronous").fetchone())
        assert rows == (level,)
        mode = await journal.perform(lambda connection: connection.execute("PRAGMA journal_mode").fetchone())
        assert mode == ("wal",)


async def test_found_images_lower_the_last_doubt_to_the_missing_images(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox", n=4)
        await journal.perform(intent, entry, attempt=1, images=4, usd=0.16)
        await journal.perform(doubt, entry, doubt_of(1, images=4, usd=0.16))
        await journal.perform(intent, entry, attempt=2, images=4, usd=0.16)
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox", n=4)
        for _ in range(2):  # as several runs do
            await journal.perform(adopt, entry, images=[(index, {"bytes": 5}) for index in range(3)], missing=1)
        asked = [(each.doubt.attempt, each.doubt.images, each.doubt.usd) for each in await doubts_in(journal)]
        assert asked == [(1, 4, 0.16), (2, 1, 0.04)]
        sums = await journal.perform(totals)
        assert (sums.doubts, sums.doubtful_images, sums.doubtful_usd, sums.images) == (2, 5, 0.2, 3)
        assert sums.jobs[INTERRUPTED] == 1


async def test_no_image_of_a_job_without_an_intent_is_adopted(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        with pytest.raises(JournalError, match="no intent"):
            await journal.perform(adopt, await admit_one(journal, "fox"), images=[(0, {})], missing=1)
        assert (await journal.perform(totals)).images == 0


async def test_an_adopted_job_has_succeeded_and_its_last_doubt_is_removed(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(intent, entry, attempt=1, images=1)
        await journal.perform(doubt, entry, doubt_of(1))
        await journal.perform(intent, entry, attempt=2, images=1)
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(adopt, entry, images=[(0, {"bytes": 4})])
        assert [listed.doubt.attempt for listed in await doubts_in(journal)] == [1]
        sums = await journal.perform(totals)
        assert (sums.jobs["succeeded"], sums.doubts, sums.attempts, sums.bytes) == (1, 1, 2, 4)


async def test_images_of_a_later_request_remove_no_doubt_of_an_earlier_one(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(intent, entry, attempt=1, images=1)
        await journal.perform(doubt, entry, doubt_of(1))
        await journal.perform(intent, entry, attempt=2, images=1)
        await journal.perform(done, entry, status=INTERRUPTED, images=[(0, {"bytes": 4})], attempts=2)
    async with await open_journal(tmp_path) as journal:
        await journal.perform(adopt, await admit_one(journal, "fox"), images=[])
        assert [listed.doubt.attempt for listed in await doubts_in(journal)] == [1]
        assert (await journal.perform(totals)).jobs["succeeded"] == 1


@pytest.mark.parametrize("which", [1, 2])
async def test_a_folder_that_cannot_be_synced_is_a_journal_error_and_can_be_opened_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    calls = 0

    def failing(_: int) -> None:
        nonlocal calls
        calls += 1
        if calls == which:
            raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", failing)
        with pytest.raises(JournalError, match="Input/output error"):
            await Journal.open(tmp_path / "inner")
    async with await Journal.open(tmp_path / "inner") as journal:
        assert (await journal.perform(totals)).jobs["intent"] == 0


async def test_a_withdrawn_image_is_missing_but_was_bought(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox", n=2)
        images = [(0, {"bytes": 7, "model": "m"}), (1, {"bytes": 5, "model": "m"})]
        await journal.perform(done, entry, status="succeeded", images=images, attempts=1)
        await journal.perform(withdraw, [(entry.key, 1), (entry.key, 1), (entry.key, 3)])
        sums = await journal.perform(totals)
        assert (sums.images, sums.bytes, sums.jobs["interrupted"]) == (1, 7, 1)
        assert await journal.perform(images_by_model) == {"m": 2}
    [entry] = await readmitted(tmp_path, ["fox"])
    assert (entry.status, entry.images, entry.attempts) == ("interrupted", 1, 1)
    async with await open_journal(tmp_path) as journal:
        assert [
            (index, record["bytes"]) for index, record in (await journal.perform(history, entry.key)).withdrawn
        ] == [(1, 5)]
        entry = await admit_one(journal, "fox", n=2)
        await journal.perform(done, entry, status="succeeded", images=[(1, {"bytes": 6, "model": "m"})], attempts=1)
        assert [record["bytes"] for _, record in (await journal.perform(history, entry.key)).images] == [7, 6]
        assert await journal.perform(images_by_model) == {"m": 3}


@pytest.mark.parametrize("status", ["partial", "interrupted", "in_doubt"])
async def test_a_withdrawal_changes_no_state_but_success(tmp_path: Path, status: str) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox", n=2)
        await journal.perform(done, entry, status=status, images=[(0, {})], attempts=1)
        await journal.perform(withdraw, [(entry.key, 0)])
    [entry] = await readmitted(tmp_path, ["fox"])
    assert (entry.status, entry.images) == (status, 0)


async def test_withdrawing_an_unknown_image_changes_nothing(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(done, entry, status="succeeded", images=[(0, {})], attempts=1)
        await journal.perform(withdraw, [(entry.key, 1), (digest("owl"), 0)])
        await journal.perform(withdraw, [])
        assert (await journal.perform(totals)).jobs["succeeded"] == 1


async def test_a_damaged_record_is_a_typed_error(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox")
        await journal.perform(done, entry, status="succeeded", images=[(0, {"bytes": 7})], attempts=1)
        await journal.perform(lambda connection: connection.execute("UPDATE images SET record = '{\x1b'").rowcount)
        with pytest.raises(JournalError, match=r"damaged: a record in it is not JSON: \{\\x1b"):
            await journal.perform(history, entry.key)
