from __future__ import annotations

import gzip
import json
import signal
import time
from contextlib import suppress
from pathlib import Path

import pytest

from imagen_async.sandbox import read_ledger
from tests.cli.child import child, ran, read_until

SANDBOX = ("--sandbox", "--sandbox-tiny", "--no-fsync", "--progress-every", "0.05", "--json")


@pytest.fixture
def many(tmp_path: Path) -> Path:
    """More prompts than a test waits for."""
    path = tmp_path / "many.txt"
    path.write_text("".join(f"Fox number {number}\n" for number in range(2000)), encoding="utf-8")
    return path


@pytest.fixture
def few(tmp_path: Path) -> Path:
    path = tmp_path / "few.txt"
    path.write_text("".join(f"Owl number {number}\n" for number in range(200)), encoding="utf-8")
    return path


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_drains_and_the_run_can_be_resumed(
    few: Path, tmp_path: Path, number: signal.Signals, status: int
) -> None:
    ledger = tmp_path / "ledger.jsonl"
    command = ("run", few, "-o", "out", *SANDBOX, "--sandbox-ledger", ledger, "--concurrency", "2")
    with child(*command, "--sandbox-latency", "0.1", folder=tmp_path) as process:
        read_until(process, r"\b[1-9]\d*/200 done")
        process.send_signal(number)
        read_until(process, f"{number.name}: finishing the requests in flight")
        out, err = process.communicate()
        assert process.returncode == status
    figures = json.loads(out.splitlines()[-1])
    assert 0 < figures["jobs"] < 200
    assert figures["succeeded"] == figures["jobs"] == figures["attempts"]
    assert f"{figures['jobs']} of 200 jobs" in err
    assert "Interrupted: run the same command again" in err
    again = ran(*command, folder=tmp_path)
    assert again.returncode == 0
    rest = json.loads(again.stdout.splitlines()[-1])
    assert (rest["skipped"], rest["succeeded"]) == (figures["jobs"], 200 - figures["jobs"])
    assert read_ledger(ledger).billed_images == 200


@pytest.mark.parametrize(
    ("first", "second", "exit_status"), [(signal.SIGTERM, signal.SIGINT, 143), (signal.SIGINT, signal.SIGTERM, 130)]
)
def test_the_second_signal_cancels_with_the_status_of_the_first(
    many: Path, tmp_path: Path, first: signal.Signals, second: signal.Signals, exit_status: int
) -> None:
    command = ("run", many, "-o", "out", *SANDBOX, "--concurrency", "2", "--sandbox-latency", "3600")
    with child(*command, folder=tmp_path) as process:
        read_until(process, "2 of 2 in flight")
        process.send_signal(first)
        read_until(process, rf"{first.name}: finishing the requests in flight \(2 now\)")
        process.send_signal(second)
        out, err = process.communicate()
        assert process.returncode == exit_status
    assert f"{second.name}: cancelling" in err
    assert json.loads(out.splitlines()[-1])["images"] == 0
    status = ran("status", "out", "--json", folder=tmp_path)
    assert status.returncode == 0
    figures = json.loads(status.stdout)
    assert (figures["interrupted"], figures["doubts"]) == (2, 2)


def test_the_third_signal_exits_immediately_and_the_journal_survives(few: Path, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.jsonl"
    command = ("run", few, "-o", "out", *SANDBOX, "--sandbox-ledger", ledger, "--concurrency", "2")
    with child(*command, "--sandbox-latency", "3600", folder=tmp_path) as process:
        read_until(process, "2 of 2 in flight")
        process.send_signal(signal.SIGINT)
        read_until(process, "SIGINT: finishing")
        # Stopped meanwhile, so that the second one has not done its work when the third one comes.
        process.send_signal(signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        out, _ = process.communicate()
        assert (process.returncode, out) == (130, "")
    assert json.loads(ran("status", "out", "--json", folder=tmp_path).stdout)["running"] is False
    again = ran(*command, folder=tmp_path)
    assert again.returncode == 0
    assert json.loads(again.stdout.splitlines()[-1])["succeeded"] == 200
    assert json.loads(ran("status", "out", "--json", folder=tmp_path).stdout)["doubts"] == 2
    assert read_ledger(ledger).billed_images == 200


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_check_of_a_large_file_ends_the_run_before_anything_is_sent(
    tmp_path: Path, number: signal.Signals, status: int
) -> None:
    # Some hundred million lines, in many members of few bytes: their check takes far too long to wait for.
    member = gzip.compress(b'{"prompt": "A red fox"}\n' * 500_000)
    with (tmp_path / "large.jsonl.gz").open("wb") as large:
        for _ in range(200):
            large.write(member)
    with child("run", "large.jsonl.gz", "-o", "out", *SANDBOX, folder=tmp_path) as process:
        reading = 0
        while reading < 5:
            reading = reading + 1 if opened(process.pid, "large.jsonl.gz") else 0
            time.sleep(0.02)  # the process prints nothing before the check is done
        process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode == status
    assert json.loads(out)["jobs"] == 0
    assert f"{number.name}: cancelling; nothing has been sent" in err
    assert not (tmp_path / "out").exists()


def opened(pid: int, name: str) -> bool:
    folder = Path(f"/proc/{pid}/fd")
    with suppress(OSError):
        return any(each.readlink().name == name for each in folder.iterdir())
    return False


def test_a_second_run_on_a_folder_in_use_is_refused(many: Path, few: Path, tmp_path: Path) -> None:
    command = ("run", many, "-o", "out", *SANDBOX, "--concurrency", "2", "--sandbox-latency", "3600")
    with child(*command, folder=tmp_path) as process:
        read_until(process, "2 of 2 in flight")
        second = ran("run", few, "-o", "out", *SANDBOX, folder=tmp_path)
        status = ran("status", "out", folder=tmp_path)
    assert second.returncode == 3
    assert "another run is using out" in second.stderr
    assert "a run is using the folder" in status.stdout
    assert "2 in flight" in status.stdout


def test_a_pipe_without_a_writer_does_not_keep_a_run_from_ending(tmp_path: Path) -> None:
    with child("run", "-", "-o", "out", *SANDBOX, folder=tmp_path) as process:
        assert process.stdin is not None
        process.stdin.write("A red fox\nAn owl\n")
        process.stdin.flush()
        read_until(process, r"\b2 done")
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert json.loads(process.stdout.read())["succeeded"] == 2
        assert process.wait() == 130


def test_prompts_can_be_piped_in(tmp_path: Path) -> None:
    done = ran("run", "-", "-o", "out", *SANDBOX, folder=tmp_path, stdin='{"prompt": "A red fox"}\n"An owl"\n')
    assert done.returncode == 0
    assert json.loads(done.stdout)["succeeded"] == 2


def test_a_bad_row_of_a_pipe_stops_the_run_after_what_was_sent(tmp_path: Path) -> None:
    rows = '{"prompt": "A red fox"}\n{"prompt": "An owl", "n": 0}\n'
    done = ran("run", "-", "-o", "out", *SANDBOX, folder=tmp_path, stdin=rows)
    assert done.returncode == 3
    assert json.loads(done.stdout)["succeeded"] == 1
    assert "line 2: n must be" in done.stderr
    assert "--skip-invalid" in done.stderr
