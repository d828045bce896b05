"""Journals cut short and with flipped bits: what was there is there, or opening stops with a word and touches nothing.

Three states are damaged: as a run leaves its folder, as it is without the seal (which then is what a run under way or
killed has), and as ``kill -9`` leaves it, with half of what happened in the log.
"""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import sqlite3
import tempfile
from contextlib import contextmanager, suppress
from itertools import chain, product
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
    folder_in_use,
    read_newest_doubts,
    read_status,
    soundness,
)
from imagen_async.batch.journal.schema import JOURNAL_NAME
from imagen_async.batch.journal.values import ABANDONED
from imagen_async.batch.journal.wal import read_log
from imagen_async.exceptions import JournalError
from tests.profiles import times

if TYPE_CHECKING:
    from collections.abc import Iterator

Files = dict[str, bytes]
Rows = dict[str, list[tuple[Any, ...]]]

MAIN = JOURNAL_NAME
LOG = f"{JOURNAL_NAME}-wal"
SEAL = f"{JOURNAL_NAME}-seal"
FRAME = 24 + 4096
STATES = ["succeeded", "partial", "failed", "filtered", "in_doubt", "interrupted"]
EVERY = int(os.environ.get("IMAGEN_TEST_EVERY", "397"))
"""How far the bytes are apart that the slow tests flip."""


@attrs.frozen
class Left:
    """What a run left: its files, and the rows in them before and after its last transaction."""

    files: Files
    before: Rows
    after: Rows


async def work(journal: Journal, numbers: range) -> None:
    """Do jobs that end in every way, each in a transaction or two of its own."""
    items = [Admission(n.to_bytes(16, "big"), id=f"job {n}", line=n, n=2) for n in numbers]
    for entry in await journal.admit(items):
        await journal.intent(entry, attempt=1, images=2, usd=0.08)
        status = STATES[entry.line % len(STATES)]
        kept = {"succeeded": 2, "partial": 1}.get(status, 0)
        images = [(i, {"file_name": f"{entry.line}-{i}.png", "bytes": 1000, "prompt": "x" * 300}) for i in range(kept)]
        doubts = [Doubt(attempt=1, at=1.0, reason="lost", images=2, usd=0.08)] if status == "in_doubt" else []
        await journal.done(entry, status=status, images=images, attempts=1, doubts=doubts)


def rows_of(connection: sqlite3.Connection) -> Rows:
    tables = ("jobs", "images", "doubts", "totals", "exports", "withdrawn")
    return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables}  # noqa: S608 - ours


def files_in(folder: Path) -> Files:
    """What is durable in a folder: SQLite makes its shared memory anew where it is missing; an empty log is none."""
    kept = [path for path in folder.iterdir() if not path.name.startswith("lock") and not path.name.endswith("-shm")]
    return {path.name: path.read_bytes() for path in kept if path.name != LOG or path.stat().st_size}


def put(folder: Path, files: Files) -> Path:
    """Make `folder` hold these files and no others."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def damaged(files: Files, name: str, place: int, bit: int = 0) -> Files:
    content = bytearray(files[name])
    content[place] ^= 1 << bit
    return {**files, name: bytes(content)}


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
        [entry] = await journal.admit([Admission(bytes([9] * 16), id="the last", line=99)])
        await journal.intent(entry, attempt=1, images=1, usd=0.04)
        files, after = files_in(folder), await journal.perform(rows_of)
    assert SEAL not in files
    return Left(files, before, after)


def taken_up(folder: Path) -> Rows:
    """Open the journal as a run does, without a thread, and return its rows; what was in flight is so no more.

    Raises:
        JournalError: It was refused; then nothing in the folder has changed and nobody holds it.
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
    with Journal(folder, fsync=False)._session() as connection:
        connection.text_factory = lambda text: text.decode(errors="replace")
        return rows_of(connection)


def told(rows: Rows) -> tuple[dict[bytes, str], set[tuple[int, int]], set[tuple[int, int]]]:
    """Say what became of each job, and which images and doubts there are, before a run does anything with it."""
    statuses = {job[1]: "interrupted" if job[6] == "intent" else job[6] for job in rows["jobs"]}
    doubts = {(doubt[1], doubt[2]) for doubt in rows["doubts"] if doubt[5] != ABANDONED}
    return statuses, {(image[1], image[2]) for image in rows["images"]}, doubts


def is_told_or_refused(folder: Path, *expected: Rows) -> bool:
    """Whether the journal opens, and then as one of these; what tells of it from outside ends without a traceback."""
    with suppress(JournalError):
        read_status(folder)
        read_newest_doubts(folder, running=False, limit=5)
    for name in (f"{MAIN}-shm",):
        (folder / name).unlink(missing_ok=True)
    try:
        found = taken_up(folder)
    except JournalError:
        return False
    assert told(found) in [told(rows) for rows in expected]
    return True


def test_a_journal_that_nobody_harmed_is_what_it_was(tmp_path: Path, left: Left, killed: Left) -> None:
    assert taken_up(put(tmp_path / "left", left.files)) == left.after
    assert taken_up(put(tmp_path / "unsealed", without_seal(left))) == left.after
    assert told(taken_up(put(tmp_path / "killed", killed.files))) == told(killed.after)
    assert told(killed.after) != told(killed.before)


@pytest.mark.parametrize("sealed", [True, False])
def test_a_file_cut_at_any_byte_of_its_last_pages_is_refused(tmp_path: Path, left: Left, *, sealed: bool) -> None:
    folder = put(tmp_path / "cut", left.files if sealed else without_seal(left))
    size = len(left.files[MAIN])
    for length in range(size - 1, size - 2 * 4096 - 1, -1):
        os.truncate(folder / MAIN, length)
        with pytest.raises(JournalError, match=f"{length} of {size} bytes|malformed"):
            soundness.check(folder / MAIN)
    assert not is_told_or_refused(folder)


def test_a_file_cut_at_any_page_is_refused_beside_its_log(tmp_path: Path, killed: Left) -> None:
    content = killed.files[MAIN]
    for length in range(0, len(content), 4096):
        folder = put(tmp_path / "cut", {**killed.files, MAIN: content[:length]})
        # The log has newer copies of some of the last pages, and may have them all.
        assert not is_told_or_refused(folder, killed.after) or length > len(content) // 2


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_log_cut_at_any_byte_of_its_last_transaction_leaves_the_state_before_it(tmp_path: Path, killed: Left) -> None:
    content = killed.files[LOG]
    begin = transactions(content)[-2]
    edges = {edge + shift for edge in range(begin, len(content), FRAME) for shift in (0, 1, 23, 24, 25, FRAME - 1)}
    for length in sorted(edges | set(range(begin, len(content), EVERY))):
        folder = put(tmp_path / "cut", {**killed.files, LOG: content[:length]})
        assert is_told_or_refused(folder, killed.before if length < len(content) else killed.after)


def test_any_flipped_bit_of_a_file_with_its_seal_is_refused(tmp_path: Path, left: Left) -> None:
    folder = put(tmp_path / "flipped", left.files)
    for place, bit in product(range(100), range(8)):
        (folder / MAIN).write_bytes(damaged(left.files, MAIN, place, bit)[MAIN])
        with pytest.raises(JournalError, match="damaged"):
            soundness.check(folder / MAIN)


@times(2)
@given(data=st.data())
def test_any_flipped_bit_of_a_page_with_its_seal_is_refused(left: Left, data: st.DataObject) -> None:
    place, bit = data.draw(places(left.files[MAIN])), data.draw(st.integers(0, 7))
    with emptied() as folder:
        assert not is_told_or_refused(put(folder, damaged(left.files, MAIN, place, bit)))


def test_a_damaged_seal_takes_nothing_from_a_sound_journal(tmp_path: Path, left: Left) -> None:
    for place, bit in product(range(len(left.files[SEAL])), range(8)):
        assert taken_up(put(tmp_path / "flipped", damaged(left.files, SEAL, place, bit))) == left.after
    for length in range(len(left.files[SEAL])):
        assert taken_up(put(tmp_path / "cut", {**left.files, SEAL: left.files[SEAL][:length]})) == left.after


@pytest.mark.parametrize("beside_its_log", [True, False])
def test_a_flipped_bit_of_the_header_without_a_seal_costs_no_job(
    tmp_path: Path, left: Left, killed: Left, *, beside_its_log: bool
) -> None:
    files, rows = (killed.files, killed.after) if beside_its_log else (without_seal(left), left.after)
    for place in range(100):
        is_told_or_refused(put(tmp_path / "flipped", damaged(files, MAIN, place, place % 8)), rows)


@times(2)
@given(data=st.data())
def test_a_flipped_bit_of_a_page_without_a_seal_costs_no_job(left: Left, killed: Left, data: st.DataObject) -> None:
    files, rows = data.draw(st.sampled_from([(killed.files, killed.after), (without_seal(left), left.after)]))
    place, bit = data.draw(places(files[MAIN])), data.draw(st.integers(0, 7))
    with emptied() as folder:
        is_told_or_refused(put(folder, damaged(files, MAIN, place, bit)), rows)


@times(2)
@given(data=st.data())
def test_a_flipped_bit_of_the_log_costs_no_job_but_of_the_last_transaction(killed: Left, data: st.DataObject) -> None:
    place, bit = data.draw(places(killed.files[LOG])), data.draw(st.integers(0, 7))
    with emptied() as folder:
        opened = is_told_or_refused(put(folder, damaged(killed.files, LOG, place, bit)), killed.before)
    assert opened == is_of_the_last(place, killed.files[LOG])


def test_any_flipped_bit_of_the_logs_own_words_costs_no_job_but_of_the_last_transaction(killed: Left) -> None:
    content = killed.files[LOG]
    begin = transactions(content)[-2]
    headers = (range(edge, edge + 24) for edge in range(32, begin, FRAME))
    for place in (*range(32), *chain.from_iterable(headers)):
        found = read_log(io.BytesIO(damaged(killed.files, LOG, place, place % 8)[LOG]))
        assert found.damaged, (place, found)


@given(data=st.data())
def test_garbage_anywhere_costs_no_job(left: Left, killed: Left, data: st.DataObject) -> None:
    name, sealed = data.draw(st.sampled_from([(MAIN, True), (MAIN, False), (LOG, False)]))
    state = left if sealed else killed
    content = bytearray(state.files[name])
    place = data.draw(places(content))
    garbage = data.draw(st.sampled_from([bytes(4096), b"\xff" * 512, Random(place).randbytes(5000)]))
    content[place : place + len(garbage)] = garbage[: len(content) - place]
    hit = range(place, min(place + len(garbage), len(content)))
    forgotten = [is_forgotten_from(hit.start, killed)] if name == LOG and ends_seen_behind(hit, killed) < 2 else []
    with emptied() as folder:
        is_told_or_refused(put(folder, {**state.files, name: bytes(content)}), state.after, state.before, *forgotten)


def test_garbage_over_the_ends_of_the_last_transactions_but_one_looks_like_a_crash(
    tmp_path: Path, killed: Left
) -> None:
    """Nothing tells it from a long transaction that was cut off: what is before it is there, and no more."""
    end = transactions(killed.files[LOG])[-2]
    hit = range(end - FRAME, end)
    content = bytearray(killed.files[LOG])
    content[hit.start : hit.stop] = bytes(len(hit))
    found = taken_up(put(tmp_path / "zeros", {**killed.files, LOG: bytes(content)}))
    assert told(found) == told(is_forgotten_from(hit.start, killed)) != told(killed.before)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", [MAIN, LOG])
def test_every_so_many_bytes_are_flipped(tmp_path: Path, left: Left, killed: Left, name: str) -> None:
    for place in range(0, len(killed.files[name]), EVERY):
        folder = put(tmp_path / "flipped", damaged(killed.files, name, place, place % 8))
        opened = is_told_or_refused(folder, killed.before, killed.after)
        assert name == MAIN or opened == is_of_the_last(place, killed.files[LOG])
    for place in range(0, len(left.files[MAIN]), EVERY) if name == MAIN else ():
        folder = put(tmp_path / "flipped", damaged(without_seal(left), MAIN, place, place % 8))
        is_told_or_refused(folder, left.after)


def test_a_log_cut_as_the_refusal_says_gives_what_was_whole(tmp_path: Path, killed: Left) -> None:
    middle = transactions(killed.files[LOG])[4]
    folder = put(tmp_path / "flipped", damaged(killed.files, LOG, middle + 100))
    with pytest.raises(JournalError, match=rf"{LOG}: it is damaged behind byte {middle}, .* cut it to {middle} bytes"):
        taken_up(folder)
    os.truncate(folder / LOG, middle)
    statuses, _, _ = told(taken_up(folder))
    assert statuses.items() <= told(killed.after)[0].items() | {(key, "interrupted") for key in statuses}


async def test_the_run_tells_where_the_damage_is_and_what_to_do(tmp_path: Path, left: Left) -> None:
    folder = put(tmp_path / "flipped", damaged(left.files, MAIN, 5000))
    with pytest.raises(JournalError, match=r"journal\.sqlite: it is damaged.* Restore it from a copy, or move all"):
        await Journal.open(folder, fsync=False)
    assert not folder_in_use(folder)


async def test_a_folder_in_the_journals_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / MAIN).mkdir()
    with pytest.raises(JournalError, match="no file"):
        await Journal.open(tmp_path, fsync=False)
    with pytest.raises(JournalError, match=JOURNAL_NAME):
        read_status(tmp_path)


async def test_a_run_that_could_not_write_its_journal_leaves_no_seal(tmp_path: Path) -> None:
    """Its file may be damaged, and a seal would vouch for that."""
    async with await Journal.open(tmp_path, fsync=False) as journal:

        def broken(_: object) -> None:
            raise sqlite3.DatabaseError("database disk image is malformed")

        with pytest.raises(JournalError):
            await journal.perform(broken)
    assert SEAL not in files_in(tmp_path)


async def test_what_a_run_writes_is_not_vouched_for_by_the_seal_of_the_run_before(tmp_path: Path, left: Left) -> None:
    folder = put(tmp_path / "open", left.files)
    with Journal(folder, fsync=False)._session():
        assert SEAL not in files_in(folder)
    assert SEAL in files_in(folder)


def without_seal(left: Left) -> Files:
    return {MAIN: left.files[MAIN]}


def transactions(log: bytes) -> list[int]:
    """Where the transactions of a log begin, and its end."""
    ends = [end for end in range(32 + FRAME, len(log) + 1, FRAME) if any(log[end - FRAME + 4 : end - FRAME + 8])]
    return [32, *ends]


def is_of_the_last(place: int, log: bytes) -> bool:
    """Whether a byte of a log belongs to its last transaction, and does not say where a transaction ends."""
    return place >= transactions(log)[-2] and (place - 32) % FRAME not in range(4, 8)


def ends_seen_behind(hit: range, killed: Left) -> int:
    """Count the ends of transactions that are still to be seen where what begins at `hit` is overwritten."""
    ends = (end - FRAME for end in transactions(killed.files[LOG])[1:])
    return sum(begin >= hit.stop or begin + 24 <= hit.start < begin + FRAME for begin in ends)


def is_forgotten_from(place: int, killed: Left) -> Rows:
    """Take up the journal with a log that ends with the last transaction before `place`."""
    whole = max(edge for edge in transactions(killed.files[LOG]) if edge <= max(place, 32))
    with emptied() as folder:
        return taken_up(put(folder, {**killed.files, LOG: killed.files[LOG][:whole]}))


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
