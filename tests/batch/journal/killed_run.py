"""A small run to be killed. It prints each acknowledgement; see `test_killed`.

Usage: ``python killed_run.py FOLDER JOBS``. Each job is sent, and then succeeds, fails or is left in flight,
by its number.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

from imagen_async.batch.journal import (
    Admission,
    Entry,
    Journal,
    admission,
    transitions,
)
from imagen_async.batch.text_files import ErrorsFile, MetadataFile


def say(word: str, entry: Entry) -> None:
    os.write(1, f"{word} {entry.line}\n".encode())


async def run_job(journal: Journal, errors: ErrorsFile, entry: Entry) -> None:
    await journal.perform(transitions.intent, entry, attempt=1, images=1)
    say("intent", entry)
    if entry.line % 5 == 0:
        await journal.perform(transitions.done, entry, status="failed", attempts=1, error={"message": "no"})
        say("failed", entry)
        await errors.append(entry.key)
        return
    images = [(index, {"file_name": f"{entry.line}-{index}.png", "bytes": 10}) for index in range(2)]
    await journal.perform(transitions.done, entry, status="succeeded", images=images, attempts=1)
    say("succeeded", entry)


async def keep_writing(metadata: MetadataFile) -> None:
    while True:
        await asyncio.sleep(0)
        await metadata.flush()


async def main(folder: Path, jobs: int) -> None:
    async with await Journal.open(folder / ".imagen", fsync=False) as journal:
        metadata = MetadataFile(journal, folder, fsync=False)
        errors = ErrorsFile(journal, folder, fsync=False)
        await errors.rewrite()
        writing = asyncio.create_task(keep_writing(metadata))
        for start in range(1, jobs + 1, 16):
            items = [Admission(line.to_bytes(16, "big"), line=line, n=2) for line in range(start, start + 16)]
            entries = await journal.perform(admission.admit, items)
            await asyncio.gather(
                *(run_job(journal, errors, entry) for entry in entries if entry.status in {None, "interrupted"})
            )
        writing.cancel()
        await asyncio.wait([writing])
        await metadata.flush()
    os.write(1, b"end 0\n")


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
