from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from imagen_async import Batch, ImagenClient
from imagen_async.cli.run_options import DisplayOptions
from imagen_async.cli.session import Session
from imagen_async.cli.summary import Reasons
from imagen_async.sandbox import read_ledger, running_sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke

SANDBOX = ("--sandbox", "--sandbox-tiny", "--no-fsync")
KEYS = [
    "jobs",
    "succeeded",
    "partial",
    "filtered",
    "failed",
    "in_doubt",
    "skipped",
    "images",
    "bytes",
    "attempts",
    "cost_usd",
    "elapsed_s",
    "doubts",
    "doubtful_usd",
]


def test_a_first_run_needs_no_key_and_leaves_a_folder_of_images(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    ran = invoke("run", prompts, "-o", "out", *SANDBOX)
    assert ran.status == 0
    assert "3 jobs: 3 succeeded" in ran.out
    assert "out/images/" in ran.out
    assert "3/3 done" in ran.err
    lines = (tmp_path / "out" / "metadata.jsonl").read_text().splitlines()
    assert {json.loads(line)["prompt"] for line in lines} == {"A red fox", "A blue whale", "An owl"}


def test_with_json_stdout_is_one_object_and_everything_else_is_on_stderr(invoke: Invoke, prompts: Path) -> None:
    ran = invoke("run", prompts, "-o", "out", "--json", "-n", "2", *SANDBOX)
    assert ran.status == 0
    assert ran.out.count("\n") == 1
    assert list(ran.json) == KEYS
    assert {name: ran.json[name] for name in ("jobs", "succeeded", "images", "attempts", "cost_usd")} == {
        "jobs": 3,
        "succeeded": 3,
        "images": 6,
        "attempts": 3,
        "cost_usd": 0.24,
    }
    assert "6 images" in ran.err


def test_a_second_run_skips_the_jobs_that_the_first_completed(invoke: Invoke, prompts: Path) -> None:
    invoke("run", prompts, "-o", "out", *SANDBOX)
    ran = invoke("run", prompts, "-o", "out", "--json", *SANDBOX)
    assert ran.status == 0
    assert (ran.json["skipped"], ran.json["attempts"], ran.json["images"]) == (3, 0, 0)


def test_failures_are_status_one_and_are_tried_again_when_asked(invoke: Invoke, prompts: Path) -> None:
    first = invoke("run", prompts, "-o", "out", "--json", *SANDBOX, "--sandbox-fault", "400-blocked=1")
    assert (first.status, first.json["failed"]) == (1, 3)
    assert "3 failed: see out/errors.jsonl; run the same command with --retry-failed." in first.err
    assert "3 × RejectedError" in first.err
    left = invoke("run", prompts, "-o", "out", "--json", *SANDBOX)
    assert (left.status, left.json["failed"], left.json["attempts"]) == (1, 3, 0)
    again = invoke("run", prompts, "-o", "out", "--json", "--retry-failed", *SANDBOX)
    assert (again.status, again.json["succeeded"]) == (0, 3)


def test_filtered_jobs_are_status_one_without_a_next_step(invoke: Invoke, prompts: Path) -> None:
    ran = invoke("run", prompts, "-o", "out", *SANDBOX, "--sandbox-fault", "filtered=100%")
    assert ran.status == 1
    assert "3 filtered: the safety filter removed all images; there is nothing to retry" in ran.out


@pytest.mark.parametrize(
    ("fault", "advice"), [("401", "check the key"), ("403", "quota"), ("503-model-not-found", "models --remote")]
)
def test_an_error_that_stops_the_run_is_status_three_with_advice(
    invoke: Invoke, prompts: Path, fault: str, advice: str
) -> None:
    ran = invoke("run", prompts, "-o", "out", "--json", *SANDBOX, "--sandbox-fault", f"{fault}=1")
    assert ran.status == 3
    assert list(ran.json) == KEYS
    assert "Stopped early: " in ran.err
    assert advice in ran.err
    assert "run the same command again" in ran.err


@pytest.mark.parametrize("cap", [("--max-images", "2"), ("--budget", "0.08")])
def test_a_cap_is_status_three_and_a_raised_cap_resumes(
    invoke: Invoke, prompts: Path, tmp_path: Path, cap: tuple[str, str]
) -> None:
    ledger = tmp_path / "ledger.jsonl"
    ran = invoke("run", prompts, "-o", "out", "--json", *cap, *SANDBOX, "--sandbox-ledger", ledger)
    assert (ran.status, ran.json["images"]) == (3, 2)
    assert "raise --max-images or --budget" in ran.err
    ran = invoke("run", prompts, "-o", "out", "--json", *SANDBOX, "--sandbox-ledger", ledger)
    assert (ran.status, ran.json["images"], ran.json["skipped"]) == (0, 1, 2)
    assert read_ledger(ledger).billed_images == 3


def test_all_bad_rows_are_reported_and_nothing_is_sent(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,n,aspect_ratio\nfox,1,1:1\nowl,zero,2:1\n,1,1:1\n", encoding="utf-8")
    ledger = tmp_path / "ledger.jsonl"
    ran = invoke("run", "p.csv", "-o", "out", "--json", *SANDBOX, "--sandbox-ledger", ledger)
    assert (ran.status, ran.out) == (2, "")
    head, third, fourth = ran.err.splitlines()
    assert head == "imagen-async: p.csv: 2 rows are invalid, nothing was sent for them"
    assert third.startswith("  line 3: ")
    assert "n must be" in third
    assert "aspect_ratio '2:1'" in third
    assert fourth.startswith("  line 4: prompt is empty")
    assert not (tmp_path / "out").exists()
    assert read_ledger(ledger).requests == 0


def test_bad_rows_can_be_skipped_and_are_listed(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("prompt,n\nfox,1\nowl,zero\n", encoding="utf-8")
    ran = invoke("run", "p.csv", "-o", "out", "--json", "--skip-invalid", *SANDBOX)
    assert (ran.status, ran.json["succeeded"]) == (1, 1)
    assert "1 row skipped as not valid: see out/invalid.jsonl." in ran.err


def test_a_dry_run_sends_nothing_makes_nothing_and_needs_no_key(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    with running_sandbox(images="tiny") as gateway:
        ran = invoke("run", prompts, "-o", "out", "--dry-run", "--rpm", "2", "-n", "6", "--base-url", gateway.base_url)
        assert gateway.requests == 0
    assert ran.status == 0
    for part in ("rows      3", "requests  6", "images    18", "about 0.72 USD", "2 min 30 s", "Nothing was sent."):
        assert part in ran.out
    assert not (tmp_path / "out").exists()


def test_a_dry_run_ends_with_json_too(invoke: Invoke, prompts: Path) -> None:
    ran = invoke("run", prompts, "-o", "out", "--dry-run", "--json")
    assert (ran.json["dry_run"], ran.json["jobs"], ran.json["images"], ran.json["seconds"]) == (True, 3, 3, None)


def test_a_dry_run_finds_bad_rows(invoke: Invoke, prompts: Path) -> None:
    ran = invoke("run", prompts, "-o", "out", "--dry-run", "--aspect-ratio", "2:1")
    assert ran.status == 2
    assert ran.err.count("aspect_ratio '2:1' is not one of") == 3


def test_hostile_prompts_and_ids_cannot_control_the_terminal(invoke: Invoke, tmp_path: Path) -> None:
    rows = [
        {"prompt": "\x1b[2J\x1b]0;pwned\x07 fox", "id": "../../\x1b[31m"},
        {"prompt": "[bold red]owl[/bold red]\r\nforged", "id": "\u202egnp.exe"},
    ]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    for fault in ("400-blocked=1", "filtered=1", "short=1"):
        ran = invoke("run", "p.jsonl", "-o", fault, *SANDBOX, "--sandbox-fault", fault)
        assert ran.status == 1
        assert all(line.isprintable() for line in (ran.out + ran.err).split("\n"))


def test_a_run_on_a_terminal_is_drawn_live(invoke: Invoke, prompts: Path) -> None:
    ran = invoke("run", prompts, "-o", "out", "--progress", "live", *SANDBOX)
    assert ran.status == 0
    assert "3/3 done" in ran.err
    assert "\x1b[?25h" in ran.err
    assert "\x1b" not in ran.out


def test_progress_can_be_left_out(invoke: Invoke, prompts: Path) -> None:
    ran = invoke("run", prompts, "-o", "out", "--progress", "off", *SANDBOX)
    assert (ran.status, ran.err) == (0, "")


def test_the_key_is_read_from_a_file(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    with running_sandbox(images="tiny") as gateway:
        key.write_text(gateway.api_key + "\n")
        where = ("--base-url", gateway.base_url, "--api-key-file", key)
        ran = invoke("run", prompts, "-o", "out", "--json", "--no-response-format", *where)
        assert (ran.status, ran.json["succeeded"]) == (0, 3)
        assert gateway.requests == 3
        key.write_text("sk-" + "wrong000" * 6)
        ran = invoke("run", prompts, "-o", "other", *where)
    assert ran.status == 3
    assert "wrong000" not in ran.out + ran.err


def test_without_a_key_nothing_is_started(invoke: Invoke, prompts: Path, tmp_path: Path) -> None:
    ran = invoke("run", prompts, "-o", "out")
    assert ran.status == 2
    assert "--sandbox, which needs none" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "options",
    [
        ("--sandbox-rpm", "60"),
        ("--sandbox", "--base-url", "http://127.0.0.1:1/v1"),
        ("--sandbox", "--api-key-file", "key"),
        ("--sandbox", "--sandbox-fault", "no-such-fault=1"),
        ("--sandbox", "--sandbox-latency", "soon"),
        ("--sandbox", "--concurrency", "0"),
        ("--sandbox", "--rpm", "0"),
        ("--sandbox", "--dry-run", "--rpm", "-1"),
        ("--sandbox", "--budget", "nan"),
        ("--sandbox", "--max-images", "-1"),
        ("--sandbox", "--progress-every", "0"),
        ("--sandbox", "--input-format", "docx"),
        ("--sandbox", "--catalog", "none.toml"),
        ("--base-url", "ftp://example.org"),
        ("--base-url", "http://example.org/v1"),
    ],
)
def test_invalid_options_are_status_two_and_make_no_folder(
    invoke: Invoke, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]
) -> None:
    monkeypatch.setenv("IMAGEN_API_KEY", "sk-" + "fake0000" * 6)
    ran = invoke("run", prompts, "-o", "out", *options)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("imagen-async: ")
    assert "Traceback" not in ran.err
    assert not (tmp_path / "out").exists()


def test_models_of_a_catalog_file_are_known_to_the_run_and_its_sandbox(
    invoke: Invoke, prompts: Path, tmp_path: Path
) -> None:
    (tmp_path / "mine.toml").write_text('["my-finetune-1.0"]\nprice_usd = 0.5\nmax_n = 1\n')
    options = ("--catalog", "mine.toml", "--model", "my-finetune-1.0", "-n", "2")
    ran = invoke("run", prompts, "-o", "out", "--json", *options, *SANDBOX)
    assert (ran.status, ran.json["jobs"], ran.json["cost_usd"]) == (0, 6, 3.0)


def test_an_output_that_is_a_file_is_refused(invoke: Invoke, prompts: Path) -> None:
    ran = invoke("run", prompts, "-o", prompts, *SANDBOX)
    assert ran.status == 2
    assert "not a folder" in ran.err


def test_the_third_signal_exits_immediately_and_restores_the_cursor(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    left: list[int] = []
    monkeypatch.setattr(os, "_exit", left.append)
    with running_sandbox(images="tiny") as gateway:
        client = ImagenClient(gateway.api_key, gateway.base_url)
        batch = Batch(client, ["A red fox"], output=tmp_path / "out")
        session = Session(batch, client, DisplayOptions(progress="live"), Reasons())
        for _ in range(3):
            session.interruption.arrived(signal.SIGTERM)
    assert left == [143]
    assert "\x1b[?25h" in capfd.readouterr().err
