"""Kills a large batch with faults at random moments, again and again, and then lets it finish."""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from imagen_async import ImageRequest
from imagen_async.sandbox import read_ledger, running_sandbox
from tests.batch.accounts import Accounts
from tests.batch.killing import Scene, done_of
from tests.batch.running import FOX
from tests.torture.left import Left, check_end

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["run"]

FAULTS = {"429": 0.05, "500": 0.05, "truncate": 0.03, "disconnect": 0.03, "corrupt-base64": 0.03, "odd-wrapping": 0.1}
SLOTS = 8
"""Those of `killed_batch`."""
START_S = 1.2
"""By then a run has begun to send, so that earlier kills hit its preparations."""


def run(*, kills: int, jobs: int, seed: int) -> int:
    """Do it in a folder that is removed afterwards; return the exit status."""
    chance, began = random.Random(seed), time.monotonic()
    requests = [
        ImageRequest(f"{FOX} number {number}", id=f"job{number}", n=chance.choice((1, 1, 1, 2, 4)))
        for number in range(jobs)
    ]
    with tempfile.TemporaryDirectory(prefix="imagen-torture-") as folder:
        try:
            _killed_and_ended(requests, Path(folder), chance, kills)
        except AssertionError as error:
            place = traceback.extract_tb(error.__traceback__)[-1]
            _say(f"BREACH: {error} ({Path(place.filename).name}:{place.lineno}: {place.line})")
            _say(f"  repeat: python -m tests.torture kill-nine --kills {kills} --jobs {jobs} --seed {seed}")
            return 1
    _say(f"all hold in {time.monotonic() - began:.0f} s")
    return 0


def _killed_and_ended(requests: Sequence[ImageRequest], folder: Path, chance: random.Random, kills: int) -> None:
    prompts, output, ledger = folder / "prompts.jsonl", folder / "out", folder / "ledger.jsonl"
    rows = ({"id": each.id, "prompt": each.prompt, "n": each.n} for each in requests)
    prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with running_sandbox(
        images="tiny",
        ledger=ledger,
        faults=FAULTS,
        faults_per_body=3,
        seed=chance.randrange(1_000),
        latency=(0.0, 0.01),
    ) as gateway:
        scene = Scene(gateway, prompts, output)
        left = _killed(scene, chance, kills, pace=3 * len(requests) // kills)
        said = scene.run()
        assert said[-1] == "end", "the last run does not end"
        after = read_ledger(ledger).requests
        again = Counter(word.split()[0] for word in scene.run())
        assert again == {"skipped": len(requests), "end": 1}, again
    assert Counter(word.split()[0] for word in said).keys() <= {"succeeded", "skipped", "end"}, (
        "not every job succeeded"
    )
    assert read_ledger(ledger).requests == after, "something was sent although everything was done"
    check_end(output, requests, read_ledger(ledger), left)
    _tell(Accounts.of(read_ledger(ledger), output))


def _killed(scene: Scene, chance: random.Random, kills: int, *, pace: int) -> Left:
    """Kill so many runs, and check what each left; the last ones are killed after about half of the jobs."""
    done: set[str] = set()
    left = Left.of(scene.folder)
    for number in range(1, kills + 1):
        after = chance.choice((0, chance.randrange(1, max(2, pace))))
        delay = chance.uniform(0.0, 0.03 if after else START_S)
        said = done_of(scene.run(kill_after=after, new=True, delay_s=delay))
        assert done.isdisjoint(said), "a job was done twice"
        done |= set(said)
        before, left = left, Left.of(scene.folder)
        left.check(scene.folder, done, most_open=SLOTS)
        assert before.images.items() <= left.images.items(), "a finished image is gone, or another"
        if number % 20 == 0:
            _say(f"{number} kills: {len(done)} jobs said to be done, {len(left.images)} images, {left.doubts} doubts")
    return left


def _tell(accounts: Accounts) -> None:
    kept, billed = sum(accounts.kept.values()), sum(entry.billed for entry in accounts.entries)
    listed = sum(doubt["images"] for doubts in accounts.doubts.values() for doubt in doubts)
    faults = Counter(entry.fault.partition(":")[0] for entry in accounts.entries if entry.fault)
    _say(f"{len(accounts.entries)} requests, {kept} images kept, {billed} billed, {listed} listed in doubt")
    _say(f"faults met: {', '.join(f'{name} {count}' for name, count in sorted(faults.items()))}")


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()
