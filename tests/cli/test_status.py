from __future__ import annotations

import asyncio
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async.batch.journal import (
    Admission,
    Doubt,
    Journal,
    admission,
    transitions,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke

SANDBOX = ("--sandbox", "--sandbox-tiny", "--no-fsync")


def test_a_finished_run_is_described(invoke: Invoke, prompts: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    ran = invoke("status", "out")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[:2] == ["no run is using the folder", "3 jobs begun: 3 succeeded"]
    assert ran.out.splitlines()[2].startswith("3 images, ")


def test_failures_are_shown_with_the_next_step(invoke: Invoke, prompts: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX, "--sandbox-fault", "400-blocked=1")
    ran = invoke("status", "out")
    assert "3 failed" in ran.out
    assert "out/errors.jsonl" in ran.out
    assert "--retry-failed" in ran.out


def test_the_figures_are_also_json(invoke: Invoke, prompts: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    ran = invoke("status", "out", "--json")
    assert ran.out.count("\n") == 1
    assert ran.json["running"] is False
    assert (ran.json["jobs"], ran.json["succeeded"], ran.json["images"], ran.json["attempts"]) == (3, 3, 3, 3)
    assert (ran.json["interrupted"], ran.json["in_flight"]) == (0, 0)
    assert list(ran.json)[-3:] == ["doubts", "doubtful_images", "doubtful_usd"]
    assert (ran.json["doubts"], ran.json["doubtful_images"], ran.json["doubtful_usd"]) == (0, 0, 0.0)


def test_a_folder_without_a_journal_is_refused_and_stays_empty(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = invoke("status", "empty")
    assert (ran.status, ran.out) == (2, "")
    assert "not the output folder of a run" in ran.err
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_damaged_journal_is_a_message_and_not_a_traceback(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    for file in (tmp_path / "out" / ".imagen").glob("journal.sqlite*"):
        file.write_bytes(b"not a database" * 1000)
    ran = invoke("status", "out")
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.startswith("imagen-async: ")
    assert "Traceback" not in ran.err


async def left_by_a_run(folder: Path, *, doubts: int, in_flight: int = 0, request_id: str | None = "req-7") -> None:
    """Leave what a killed run leaves: some requests in doubt, of three images each, and some in flight, of two."""
    async with await Journal.open(folder / ".imagen", fsync=False, clock=lambda: 1_767_614_400.0) as journal:
        items = [Admission(bytes([n]) * 16, id=f"fox-{n}", line=n, n=3) for n in range(doubts + in_flight)]
        for number, entry in enumerate(await journal.perform(admission.admit, items)):
            in_doubt = number < doubts
            await journal.perform(
                transitions.intent, entry, attempt=1, images=3 if in_doubt else 2, usd=0.12 if in_doubt else 0.08
            )
            if in_doubt:
                doubt = Doubt(attempt=1, at=1_767_614_400.0, reason="lost", request_id=request_id, images=3, usd=0.12)
                await journal.perform(transitions.doubt, entry, doubt)


def test_requests_in_doubt_are_counted_and_listed(invoke: Invoke, tmp_path: Path) -> None:
    asyncio.run(left_by_a_run(tmp_path / "out", doubts=2))
    lines = invoke("status", "out").out.splitlines()
    assert lines[3:6] == [
        "2 requests may have been billed for nothing: 6 images, at most 0.24 USD",
        "  2026-01-05 12:00:00 UTC, job fox-1, attempt 1, request req-7: 3 images",
        "  2026-01-05 12:00:00 UTC, job fox-0, attempt 1, request req-7: 3 images",
    ]
    figures = invoke("status", "out", "--json").json
    assert (figures["doubts"], figures["doubtful_images"], figures["doubtful_usd"]) == (2, 6, 0.24)


def test_requests_that_a_killed_run_left_in_flight_are_in_doubt_before_the_next_run(
    invoke: Invoke, tmp_path: Path
) -> None:
    asyncio.run(left_by_a_run(tmp_path / "out", doubts=1, in_flight=2))
    figures = invoke("status", "out", "--json").json
    assert (figures["interrupted"], figures["in_flight"]) == (3, 0)
    assert (figures["doubts"], figures["doubtful_images"], figures["doubtful_usd"]) == (3, 7, 0.28)
    said = invoke("status", "out").out
    assert "3 requests may have been billed for nothing: 7 images, at most 0.28 USD" in said
    assert "  2026-01-05 12:00:00 UTC, job fox-2, attempt 1, no request id: 2 images" in said


def test_requests_in_flight_during_a_run_are_not_in_doubt(invoke: Invoke, tmp_path: Path) -> None:
    async def look() -> tuple[str, dict[str, Any]]:
        await left_by_a_run(tmp_path / "out", doubts=1)
        async with await Journal.open(tmp_path / "out" / ".imagen", fsync=False) as journal:
            [entry] = await journal.perform(admission.admit, [Admission(bytes([9]) * 16, id="owl", n=2)])
            await journal.perform(transitions.intent, entry, attempt=1, images=2, usd=0.08)
            return invoke("status", "out").out, invoke("status", "out", "--json").json

    said, figures = asyncio.run(look())
    assert figures["running"] is True
    assert (figures["in_flight"], figures["doubts"], figures["doubtful_images"]) == (1, 1, 3)
    assert "1 request may have been billed for nothing: 3 images, at most 0.12 USD" in said
    assert "owl" not in said


@pytest.mark.parametrize(("doubts", "in_flight", "left"), [(5, 0, 0), (3, 2, 0), (6, 0, 1), (4, 7, 6), (40, 0, 35)])
def test_of_many_requests_in_doubt_the_newest_five_are_listed_and_the_rest_counted(
    invoke: Invoke, tmp_path: Path, doubts: int, in_flight: int, left: int
) -> None:
    asyncio.run(left_by_a_run(tmp_path / "out", doubts=doubts, in_flight=in_flight))
    said = invoke("status", "out").out
    assert said.count(", attempt 1, ") == 5
    more = f"  … and {left} more: see out/errors.jsonl, which a run updates when it starts and ends\n"
    assert (more in said) is (left > 0)


def test_an_unknown_price_is_not_an_amount(invoke: Invoke, tmp_path: Path) -> None:
    async def leave() -> None:
        async with await Journal.open(tmp_path / "out" / ".imagen", fsync=False) as journal:
            [entry] = await journal.perform(admission.admit, [Admission(bytes(16), line=12)])
            await journal.perform(transitions.intent, entry, attempt=1, images=1)

    asyncio.run(leave())
    said = invoke("status", "out").out
    assert "1 request may have been billed for nothing: 1 image, an unknown amount" in said
    assert "job line 12, attempt 1, no request id: 1 image" in said


def test_foreign_text_in_a_listed_request_cannot_control_the_terminal(invoke: Invoke, tmp_path: Path) -> None:
    async def leave() -> None:
        async with await Journal.open(tmp_path / "out" / ".imagen", fsync=False) as journal:
            [entry] = await journal.perform(
                admission.admit, [Admission(bytes(16), id="\x1b[2J\nforged line" + 500 * "x")]
            )
            await journal.perform(transitions.intent, entry, attempt=1, images=1)
            hostile = Doubt(attempt=1, at=1.0, reason="\x07", request_id="\x1b]0;mine\x07" + 500 * "y", images=1)
            await journal.perform(transitions.doubt, entry, hostile)

    asyncio.run(leave())
    said = invoke("status", "out").out
    assert "forged line" in said
    assert all(line.isprintable() and len(line) < 300 for line in said.splitlines())


def test_every_image_is_verified_on_demand(invoke: Invoke, prompts: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    ran = invoke("status", "out", "--verify")
    assert ran.status == 0
    assert "3 images verified" in ran.out.splitlines()[-1]
    assert "all as recorded" in ran.out.splitlines()[-1]


def test_damage_is_named_and_counted_and_is_an_exit_status(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    first, second, _ = sorted((tmp_path / "out" / "images").rglob("*.png"))
    first.unlink()
    second.write_bytes(b"x")
    ran = invoke("status", "out", "--verify")
    assert ran.status == 1
    assert f"  missing: {first.relative_to(tmp_path / 'out').as_posix()}, job line" in ran.out
    assert "1 missing, 1 altered" in ran.out
    assert "--redo-damaged" in ran.out
    assert invoke("status", "out").status == 0
    ran = invoke("status", "out", "--verify", "--json")
    assert (ran.status, ran.out.count("\n")) == (1, 3)
    assert ran.json["verified"]["damaged"] == 2
    assert (ran.json["verified"]["missing"], ran.json["verified"]["altered"]) == (1, 1)
    named = {json.loads(line)["problem"]: json.loads(line)["file_name"] for line in ran.out.splitlines()[:2]}
    assert named["altered"] == second.relative_to(tmp_path / "out").as_posix()


def test_of_much_damage_twenty_files_are_listed_and_all_are_json(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("\n".join(f"fox {number}" for number in range(23)))
    invoke("run", "many.txt", "-o", "out", *SANDBOX)
    shutil.rmtree(tmp_path / "out" / "images")
    said = invoke("status", "out", "--verify").out
    assert said.count("  missing: ") == 20
    assert "  … and 3 more: --json names them all" in said
    assert invoke("status", "out", "--verify", "--json").out.count('"missing", "file_name"') == 23


def test_damaged_images_are_made_anew_only_on_request(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    min((tmp_path / "out" / "images").rglob("*.png")).unlink()
    assert "3 skipped" in invoke("run", prompts, "-o", "out", *SANDBOX).out
    assert invoke("status", "out", "--verify").status == 1
    ran = invoke("run", prompts, "-o", "out", *SANDBOX, "--redo-damaged")
    assert "1 succeeded, 2 skipped" in ran.out
    assert invoke("status", "out", "--verify").status == 0


def test_an_impossible_time_is_shown_as_a_number(invoke: Invoke, tmp_path: Path) -> None:
    async def leave() -> None:
        async with await Journal.open(tmp_path / "out" / ".imagen", fsync=False) as journal:
            [entry] = await journal.perform(admission.admit, [Admission(bytes(16), id="fox")])
            await journal.perform(transitions.intent, entry, attempt=1, images=1)
            await journal.perform(transitions.doubt, entry, Doubt(attempt=1, at=1e300, reason="lost", images=1))

    asyncio.run(leave())
    ran = invoke("status", "out")
    assert (ran.status, "at 1e+300, job fox" in ran.out) == (0, True)
