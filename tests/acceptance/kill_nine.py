"""Runs a file, kills it with ``kill -9`` at three random points, and resumes it: nothing is lost or bought twice."""

from __future__ import annotations

import random
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING

from imagen_async.sandbox import LedgerEntry, read_ledger
from tests.acceptance.outside import Verdict, check_images, metadata, wanted_images

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["run"]

KILLS = 3


def run(prompts: Path, folder: Path, options: Sequence[str]) -> int:
    """Kill it thrice, let it end, and compare the sandbox's ledger with the folder."""
    verdict, output, ledger = Verdict(), folder / "out", folder / "ledger.jsonl"
    wanted = wanted_images(prompts)
    # A job may be in flight at more than one kill.
    sandbox = ["--sandbox", "--sandbox-ledger", str(ledger), "--on-ambiguous", "retry"]
    command = [sys.executable, "-m", "imagen_async", "run", str(prompts), "--output", str(output), *sandbox, *options]
    points = sorted(random.sample(range(wanted.total() // 10, wanted.total() * 9 // 10), KILLS))
    finished: list[tuple[int, set[str]]] = []
    for point in points:
        images = _kill_at(command, output, point)
        entries = len(ledger.read_text().splitlines())
        finished.append((entries, _finished_prompts(output)))
        verdict.say(f"killed at {images} images, {len(finished[-1][1])} of them recorded")
    status = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode  # noqa: S603 - our own command
    verdict.check("the last run completes", holds=status == 0, detail=f"exit {status}")
    lines = metadata(output)
    check_images(verdict, output, lines, wanted)
    _check_ledger(verdict, output, ledger, finished, wanted)
    return verdict.exit_status


def _kill_at(command: list[str], output: Path, point: int) -> int:
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: S603 - our own
    try:
        while (count := _images(output)) < point and child.poll() is None:
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    return count


def _images(output: Path) -> int:
    return sum(1 for _ in (output / "images").glob("*/*"))


def _finished_prompts(output: Path) -> set[str]:
    """Read from the dead run's journal which prompts it had recorded as done."""
    query = (
        "SELECT json_extract(images.record, '$.prompt') FROM images JOIN jobs USING (job) WHERE status = 'succeeded'"
    )
    with closing(sqlite3.connect(output / ".imagen" / "journal.sqlite")) as connection:
        return {prompt for (prompt,) in connection.execute(query)}


def _check_ledger(
    verdict: Verdict, output: Path, ledger: Path, finished: list[tuple[int, set[str]]], wanted: Counter[str]
) -> None:
    entries = read_ledger(ledger).entries
    unique = {prompt for prompt, count in wanted.items() if count == 1}
    rebought = []
    for lines, done in finished:
        # The ledger has up to two lines a request; lines after the kill are among the later ones.
        seen = {entry.request_id for entry in _first(ledger, lines)}
        rebought += [
            entry.prompt for entry in entries if entry.request_id not in seen and entry.prompt in done & unique
        ]
    verdict.check("no image was billed for a job that was finished", holds=not rebought, detail=rebought[:3])
    billed = sum(entry.billed for entry in entries)
    with closing(sqlite3.connect(output / ".imagen" / "journal.sqlite")) as connection:
        ((doubtful,),) = connection.execute("SELECT coalesce(sum(images), 0) FROM doubts").fetchall()
    extra = billed - wanted.total()
    verdict.check(
        "every image billed twice is listed in doubt",
        holds=extra <= doubtful,
        detail=f"{extra} billed, {doubtful} listed",
    )


def _first(ledger: Path, lines: int) -> list[LedgerEntry]:
    short = ledger.with_suffix(".short")
    short.write_text("".join(line + "\n" for line in ledger.read_text().splitlines()[:lines]))
    return list(read_ledger(short).entries)
