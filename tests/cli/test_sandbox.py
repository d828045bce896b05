from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from imagen_async.sandbox import FAULTS
from tests.cli.child import child, ran, read_until

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from tests.cli.conftest import Invoke


def welcome(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    seen = ""
    for line in process.stdout:
        seen += line
        if line.startswith("Ctrl-C"):
            return seen
    raise AssertionError(seen)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_prints_how_to_use_it_and_each_request_and_ends_with_totals(tmp_path: Path, number: signal.Signals) -> None:
    with child("sandbox", "--tiny", "--ledger", "ledger.jsonl", folder=tmp_path) as process:
        said = welcome(process)
        found = re.search(
            r"^export IMAGEN_BASE_URL=(http://127\.0\.0\.1:\d+/v1)\nexport IMAGEN_API_KEY=(sk-\w{48})$",
            said,
            re.MULTILINE,
        )
        assert found is not None
        url, key = found.groups()
        assert f"curl -s {url}/images/generations" in said
        (tmp_path / "key").write_text(key)
        done = ran("generate", "fox\x1b[2J", "--base-url", url, "--api-key-file", "key", folder=tmp_path)
        assert (done.returncode, done.stdout) == (0, "fox-2j.png\n")
        line = read_until(process, r"\b200\b")
        assert r"billed 1  sent 1  n=1  'fox\x1b[2J'" in line
        process.send_signal(number)
        out, err = process.communicate()
        assert process.returncode == 0
    assert out == ""
    assert err == "1 request (1 × 200); 1 image billed, 1 sent\n"
    assert "fox" in (tmp_path / "ledger.jsonl").read_text()


def test_the_faults_can_be_listed(invoke: Invoke) -> None:
    shown = invoke("sandbox", "--list-faults")
    assert shown.status == 0
    assert [line.split()[0] for line in shown.out.splitlines()] == list(FAULTS)


@pytest.mark.parametrize(
    "options",
    [
        ("--fault", "429"),
        ("--fault", "429=1", "500=1"),
        ("--fault", "none-such=1"),
        ("--latency", "3-1"),
        ("--retry-after", "later"),
        ("--rpm", "0"),
        ("--port", "70000"),
        ("--ledger", "no/such/folder/ledger.jsonl"),
    ],
)
def test_invalid_options_are_status_two(invoke: Invoke, options: tuple[str, ...]) -> None:
    shown = invoke("sandbox", *options)
    assert (shown.status, shown.out) == (2, "")
    assert shown.err.startswith("imagen-async: ")
    assert shown.err.count("\n") == 1
