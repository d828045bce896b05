"""What a run left in its folder before the next run, and what must hold then and at the end."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from imagen_async.batch.journal import read_status
from imagen_async.sandbox import read_stamp
from tests.acceptance.outside import facts_of
from tests.batch.accounts import Accounts, check_all_listed
from tests.batch.running import files, images

if TYPE_CHECKING:
    from imagen_async import ImageRequest
    from imagen_async.sandbox import Ledger

__all__ = ["Left", "check_end", "left_over"]

_BESIDE = frozenset(
    {
        "metadata.jsonl",
        "errors.jsonl",
        ".imagen/journal.sqlite",
        ".imagen/lock.sqlite",
    }
)
"""All the files beside the images that a run leaves."""

_UNANSWERED = (
    "SELECT id, n FROM jobs WHERE status = 'intent' "
    "AND NOT EXISTS (SELECT 1 FROM doubts WHERE doubts.job = jobs.job AND attempt = attempts)"
)


@attrs.frozen
class Left:
    """What a run left.

    Attributes:
        images: The digest of each file under ``images/``.
        told: The digest that ``metadata.jsonl`` tells of each, as far as its lines are whole.
        done: Jobs that the journal has as succeeded.
        unanswered: Requests that were sent and whose answers the journal does not have.
        open: Those of them whose images are not in the folder either.
        doubts: Those that it has in doubt.
    """

    images: Mapping[str, str]
    told: Mapping[str, str]
    done: AbstractSet[str]
    unanswered: int
    open: int
    doubts: int

    @classmethod
    def of(cls, folder: Path) -> Left:
        """Look at a folder; its journal is read in a copy, for to open it is to change it."""
        digests = {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in sorted(files(folder))}
        with tempfile.TemporaryDirectory() as copy:
            for path in (folder / ".imagen").glob("journal.sqlite*"):
                shutil.copy(path, copy)
            done, unanswered, doubts = _journal(Path(copy) / "journal.sqlite")
        there = Counter(Path(name).name.rpartition("-")[0] for name in digests)
        waiting = sum(there[id_] < n for id_, n in unanswered.items())
        return cls(digests, _told(folder), done, len(unanswered), waiting, doubts)

    def check(self, folder: Path, said: AbstractSet[str], *, most_open: int) -> None:
        """Nothing is half done, and what was said to be done is."""
        for name in self.images:
            data = (folder / name).read_bytes()
            assert facts_of(data).size == len(data), f"{name} has more than an image in it"
            number = read_stamp(data)["prompt"].rpartition(" ")[2]
            assert Path(name).name.startswith(f"job{number}-"), f"{name} is an image of job{number}"
        assert self.told.items() <= self.images.items(), "metadata.jsonl tells of a file that is not so"
        assert said <= self.done, f"said to be done and not in the journal: {sorted(said - self.done)}"
        assert self.open <= most_open, f"{self.open} requests are open"


def _journal(path: Path) -> tuple[AbstractSet[str], Mapping[str, int], int]:
    """Read which jobs are done, the images of those whose last request was not answered, and the number of doubts."""
    if not path.exists():
        return frozenset(), {}, 0
    with closing(sqlite3.connect(path)) as connection:
        done = frozenset(id_ for (id_,) in connection.execute("SELECT id FROM jobs WHERE status = 'succeeded'"))
        unanswered = dict(connection.execute(_UNANSWERED))
        [(doubts,)] = connection.execute("SELECT count(*) FROM doubts")
    return done, unanswered, doubts


def _told(folder: Path) -> dict[str, str]:
    path = folder / "metadata.jsonl"
    text = path.read_bytes() if path.exists() else b""
    whole = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith(b"\n")]
    return {line["file_name"]: line["sha256"] for line in whole}


def check_end(folder: Path, requests: Sequence[ImageRequest], ledger: Ledger, earlier: Left) -> Left:
    """Everything is there, once; what was there before stays; what was bought for nothing is listed."""
    got = Counter(prompt for prompt, _ in images(folder).values())
    assert got == {request.prompt: request.n for request in requests}
    end = Left.of(folder)
    end.check(folder, {str(request.id) for request in requests}, most_open=0)
    assert end.told == end.images
    assert earlier.images.items() <= end.images.items(), "an image that was finished is gone, or another"
    check_all_listed(Accounts.of(ledger, folder), requests)
    listed = sum(len(doubts) for doubts in Accounts.of(ledger, folder).doubts.values())
    assert listed == read_status(folder / ".imagen").doubts == end.doubts
    return end


def left_over(folder: Path) -> list[str]:
    """Name the files that are neither images nor what a run leaves beside them."""
    everything = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return sorted(everything - files(folder) - _BESIDE)
