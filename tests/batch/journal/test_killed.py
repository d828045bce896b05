"""What the journal and its exports promise through ``kill -9`` and between processes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import pytest

from imagen_async.batch.folder import ERRORS_NAME, METADATA_NAME
from imagen_async.batch.journal import (
    INTENT,
    Admission,
    Entry,
    Journal,
    admission,
    folder_in_use,
    queries,
    read_status,
)
from imagen_async.batch.text_files import ErrorsFile, MetadataFile
from imagen_async.exceptions import JournalLockedError
from tests.batch.journals import doubts_in

if TYPE_CHECKING:
    from collections.abc import Iterator

RUN = Path(__file__).with_name("killed_run.py")
JOBS = 2000


def run_and_kill(folder: Path, after: int) -> set[tuple[str, int]]:
    """Run until `after` acknowledgements were seen, kill, and return all that were made."""
    command = [sys.executable, str(RUN), str(folder), str(JOBS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own script
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(after)]
        process.kill()
        said += process.stdout.readlines()
    # A kill may cut the last line, which then acknowledges nothing.
    words = [line.split() for line in said if line.endswith(b"\n")]
    return {(word.decode(), int(number)) for word, number in words}


async def states(journal: Journal) -> dict[int, Entry]:
    entries = await journal.perform(
        admission.admit, [Admission(line.to_bytes(16, "big"), line=line) for line in range(1, JOBS + 1)]
    )
    return {entry.line: entry for entry in entries}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_killed_run_loses_nothing_that_it_acknowledged(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    acknowledged: set[tuple[str, int]] = set()
    for _ in range(4):
        acknowledged |= run_and_kill(tmp_path, random.randrange(1, 700))
        assert not folder_in_use(tmp_path / ".imagen")
        in_flight = read_status(tmp_path / ".imagen").jobs[INTENT]
        async with await Journal.open(tmp_path / ".imagen", fsync=False) as journal:
            assert journal.abandoned == in_flight
            known = await states(journal)
            for word, line in acknowledged:
                assert word == "intent" or known[line].status == word
            in_doubt = {doubt.line for doubt in await doubts_in(journal)}
            ended = {line for word, line in acknowledged if word != "intent"}
            sent = {line for word, line in acknowledged if word == "intent"}
            # An end may be recorded and not acknowledged; a request that was sent is never forgotten.
            assert all(known[line].status != "interrupted" or line in in_doubt for line in sent - ended)
            assert all(known[line].status is not None for line in sent)
            await check_exports(journal, tmp_path, known)


async def check_exports(journal: Journal, folder: Path, known: dict[int, Entry]) -> None:
    await MetadataFile(journal, folder, fsync=False).flush()
    names = Counter(json.loads(line)["file_name"] for line in (folder / METADATA_NAME).read_text().splitlines())
    succeeded = [entry for entry in known.values() if entry.status == "succeeded"]
    assert names == {f"{entry.line}-{index}.png": 1 for entry in succeeded for index in range(2)}
    await ErrorsFile(journal, folder, fsync=False).rewrite()
    path = folder / ERRORS_NAME
    told = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    assert {each["line"] for each in told if each["status"] == "failed"} == {
        entry.line for entry in known.values() if entry.status == "failed"
    }


@contextmanager
def running(folder: Path) -> Iterator[None]:
    """Hold `folder` by another process that has acknowledged some work."""
    command = [sys.executable, str(RUN), str(folder), "1000000"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:  # noqa: S603 - our own script
        assert process.stdout is not None
        try:
            for _ in range(40):
                process.stdout.readline()
            yield  # it runs until the pipe is full, and locks the folder meanwhile
        finally:
            process.kill()


async def test_a_second_process_is_refused_while_it_can_read_the_status(tmp_path: Path) -> None:
    with running(tmp_path):
        assert folder_in_use(tmp_path / ".imagen")
        assert sum(read_status(tmp_path / ".imagen").jobs.values()) > 0
        with pytest.raises(JournalLockedError, match="another run"):
            await Journal.open(tmp_path / ".imagen", fsync=False)
    async with await Journal.open(tmp_path / ".imagen", fsync=False) as journal:
        assert (await journal.perform(queries.totals)).jobs[INTENT] == 0
