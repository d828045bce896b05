"""``make demo`` keeps its word: the prompts that are shipped, some faults, and every image in the end."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from imagen_async import open_source
from imagen_async.sandbox import read_ledger, read_stamp

HOME = Path(__file__).parents[2]
PROMPTS = HOME / "examples" / "prompts.jsonl"


def demo_options() -> list[str]:
    """Return what the Makefile gives to the run, without the delays."""
    makefile = (HOME / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    found = re.search(r"^DEMO = (.*)$", makefile, re.MULTILINE)
    assert found is not None
    return shlex.split(re.sub(r"--sandbox-latency \S+", "", found[1]))


def test_the_prompts_are_varied_and_valid() -> None:
    report = open_source(PROMPTS).check()
    rows = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    assert report.bad == 0
    assert len({row["prompt"] for row in rows}) == len(rows) >= 24
    assert {row.get("n", 1) for row in rows} == {1, 2, 3, 4}
    assert {row.get("aspect_ratio", "1:1") for row in rows} == {"1:1", "9:16", "16:9", "3:4", "4:3"}
    assert {row.get("output_format", "png") for row in rows} == {"png", "jpeg"}


@pytest.mark.slow
def test_the_demo_meets_each_of_its_faults_and_ends_with_every_image(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "imagen_async", "run", str(PROMPTS), "--output", str(tmp_path / "out")]
    more = ["--sandbox-tiny", "--sandbox-ledger", str(tmp_path / "ledger"), "--json"]
    done = subprocess.run([*command, *demo_options(), *more], capture_output=True, text=True, check=False)  # noqa: S603 - our own command
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["succeeded"] == len(PROMPTS.read_text(encoding="utf-8").splitlines())
    met = {entry.fault.partition(":")[0] for entry in read_ledger(tmp_path / "ledger") if entry.fault is not None}
    assert met == {option.partition("=")[0] for option in demo_options() if "%" in option}
    asked = {
        row["prompt"]: row.get("n", 1) for row in map(json.loads, PROMPTS.read_text(encoding="utf-8").splitlines())
    }
    files = [file for file in (tmp_path / "out" / "images").rglob("*") if file.is_file()]
    assert Counter(read_stamp(file.read_bytes())["prompt"] for file in files) == asked
