"""Jobs, images and requests in doubt are recorded, and found by later runs and readers."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING

import pytest

from imagen_async.batch.journal import (
    INTENT,
    INTERRUPTED,
    Admission,
    Journal,
    Unanswered,
    folder_in_use,
    read_newest_doubts,
    read_status,
)
from imagen_async.batch.journal.admission import admit
from imagen_async.batch.journal.queries import history, images_by_model, totals
from imagen_async.batch.journal.transitions import adopt, done, doubt, intent, never_sent, withdraw
from imagen_async.exceptions import JournalError, JournalLockedError
from tests.batch.journals import admit_one, digest, doubt_of, doubts_in, failures_in, open_journal, readmitted

if TYPE_CHECKING:
    from pathlib import Path


async def test_a_job_that_was_reported_done_is_done_after_reopening(tmp_path: Path) -> None:
    async with await open_journal(tmp_path) as journal:
        entry = await admit_one(journal, "fox", n=2)
        assert (entry.status, entry.images, entry.attempts) == (None, 0, 0)
        await journal.perform(intent, entry, attempt=1, images=1)
        await journal.perform(done, entry, status="succeeded", images=[(0, {"a": 1}), (1, {"a": 2})], attempts=1)
    [again] = await readmitted(tmp_path, ["fox"])
    assert (again.status, again.images, again.attempts) == ("succeeded", 2, 1)
    assert (again.key, again.stem) == (entry.key, entry.stem)


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


async def test_the_repr_names_the_folder_only(tmp_path: Path) -> None:
    async with await open_journal(tmp_path / "out") as journal:
        assert repr(journal) == f"Journal({str(tmp_path / 'out')!r})"


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
