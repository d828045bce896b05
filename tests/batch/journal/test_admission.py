"""Jobs keep their keys and stems over all runs, however the input is grouped or ordered."""

from __future__ import annotations

import sqlite3
from collections import Counter
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagen_async.batch.journal import (
    Admission,
)
from imagen_async.batch.journal.admission import admit, begin_run
from imagen_async.batch.journal.queries import totals
from imagen_async.batch.journal.transitions import done, intent
from imagen_async.exceptions import JournalError
from tests.batch.journals import admit_one, digest, open_journal, readmitted
from tests.profiles import times

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


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
