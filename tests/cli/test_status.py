from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke

SANDBOX = ("--sandbox", "--sandbox-tiny", "--no-fsync")


def test_a_finished_run_is_told_in_words(invoke: Invoke, prompts: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    ran = invoke("status", "out")
    assert (ran.status, ran.err) == (0, "")
    assert ran.out.splitlines()[:2] == ["no run is using the folder", "3 jobs begun: 3 succeeded"]
    assert ran.out.splitlines()[2].startswith("3 images, ")


def test_failures_are_told_with_what_to_do(invoke: Invoke, prompts: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX, "--sandbox-fault", "400-blocked=1")
    ran = invoke("status", "out")
    assert "3 failed" in ran.out
    assert "out/errors.jsonl" in ran.out
    assert "--retry-failed" in ran.out


def test_the_figures_are_there_for_scripts(invoke: Invoke, prompts: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    ran = invoke("status", "out", "--json")
    assert ran.out.count("\n") == 1
    assert ran.json["running"] is False
    assert (ran.json["jobs"], ran.json["succeeded"], ran.json["images"], ran.json["attempts"]) == (3, 3, 3, 3)
    assert (ran.json["interrupted"], ran.json["in_flight"], ran.json["doubts"]) == (0, 0, 0)


def test_a_folder_without_a_journal_is_refused_and_stays_empty(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    ran = invoke("status", "empty")
    assert (ran.status, ran.out) == (2, "")
    assert "not the output folder of a run" in ran.err
    assert list((tmp_path / "empty").iterdir()) == []


def test_a_damaged_journal_is_told_without_a_traceback(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    for file in (tmp_path / "out" / ".imagen").glob("journal.sqlite*"):
        file.write_bytes(b"not a database" * 1000)
    ran = invoke("status", "out")
    assert (ran.status, ran.out) == (3, "")
    assert ran.err.startswith("imagen-async: ")
    assert "Traceback" not in ran.err
