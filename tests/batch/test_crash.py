"""What a batch promises through ``kill -9``: nothing that was done is lost or bought again."""

from __future__ import annotations

import json
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest

from imagen_async.batch.journal import folder_in_use, read_status
from imagen_async.sandbox import read_ledger, running_sandbox
from tests.batch.killing import Scene, done_of
from tests.batch.running import errors, images, metadata, strays

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.slow

ROWS = 160
FAULTS = {"429": 0.05, "500": 0.05, "odd-wrapping": 0.1, "truncate": 0.02}


def rows(random: Random) -> dict[str, tuple[str, int]]:
    """Prompt and number of images by id."""
    return {f"job{number}": (f"A red fox number {number}", random.choice([1, 1, 1, 2, 4, 6])) for number in range(ROWS)}


@pytest.mark.parametrize("seed", [1])
def test_a_batch_that_is_killed_three_times_is_complete_at_the_end(tmp_path: Path, seed: int) -> None:
    random = Random(seed)
    wanted = rows(random)
    prompts, folder, ledger = tmp_path / "prompts.jsonl", tmp_path / "out", tmp_path / "ledger.jsonl"
    prompts.write_text(
        "".join(json.dumps({"id": id_, "prompt": text, "n": n}) + "\n" for id_, (text, n) in wanted.items())
    )
    with running_sandbox(
        images="tiny", ledger=ledger, faults=FAULTS, faults_per_body=3, seed=seed, latency=(0.0, 0.004)
    ) as gateway:
        scene = Scene(gateway, prompts, folder)
        finished, before = Counter[str](), Counter[str]()
        for _ in range(3):
            said = scene.run(kill_after=random.randrange(5, 60))
            assert "end" not in said
            assert not folder_in_use(folder / ".imagen")
            finished += Counter(done_of(said))
            before = billed_requests(ledger)
        said = scene.run()
        assert said[-1] == "end"
        after = billed_requests(ledger)
        again = scene.run()
    assert Counter(word.split()[0] for word in again) == {"skipped": jobs(wanted), "end": 1}
    assert billed_requests(ledger) == after

    # Complete: each prompt has its own images, each exactly once.
    assert Counter(word.split()[0] for word in said).keys() <= {"succeeded", "skipped", "end"}
    assert Counter(prompt for prompt, _ in images(folder).values()) == dict(wanted.values())
    told = Counter((line["id"], line["index"]) for line in metadata(folder))
    assert told == {(id_, index): 1 for id_, (_, n) in wanted.items() for index in range(n)}
    assert strays(folder) == []

    # No job succeeded twice, and none that was complete before the last kill was bought after it.
    assert max(finished.values()) <= 2  # a row of six images is two jobs
    whole = {id_ for id_, times in finished.items() if times == (2 if wanted[id_][1] > 4 else 1)}
    assert {wanted[id_][0] for id_ in whole}.isdisjoint(after - before)

    # Billed images that are missing are listed, request by request.
    doubts = Counter(line["id"] for line in errors(folder) for _ in line.get("doubts", ()))
    for id_, (text, n) in wanted.items():
        assert after[text] <= (2 if n > 4 else 1) + doubts[id_], id_
    doubtful: Counter[str] = Counter()
    for line in errors(folder):
        doubtful[line["id"]] += sum(doubt["images"] for doubt in line.get("doubts", ()))
    billed = billed_images(ledger)
    for id_, (text, n) in wanted.items():
        assert billed[text] <= n + doubtful[id_], id_
    status = read_status(folder / ".imagen")
    assert (status.doubts, status.doubtful_images) == (doubts.total(), doubtful.total())
    assert status.unanswered.requests == 0
    assert status.doubtful_usd == pytest.approx(0.04 * doubtful.total())
    assert status.jobs["intent"] == status.jobs["interrupted"] == 0
    assert status.images == sum(n for _, n in wanted.values())


def billed_requests(ledger: Path) -> Counter[str]:
    """How many requests were billed for each prompt."""
    return Counter(str(entry.prompt) for entry in read_ledger(ledger).entries if entry.billed)


def billed_images(ledger: Path) -> Counter[str]:
    """How many images were billed for each prompt."""
    billed: Counter[str] = Counter()
    for entry in read_ledger(ledger).entries:
        billed[str(entry.prompt)] += entry.billed
    return billed


def jobs(wanted: dict[str, tuple[str, int]]) -> int:
    return sum(2 if n > 4 else 1 for _, n in wanted.values())
