"""Runs each target under atheris in a process of its own, and parses libFuzzer's output."""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from tests.fuzz.corpus import CORPUS

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["OUTPUT", "Report", "dictionary", "fuzz", "read_log"]

OUTPUT = Path("fuzz-out")
"""Findings, logs, and what was learnt, per target; in the folder where it is started."""

_LIMITS = ("-timeout=120", "-rss_limit_mb=4096")
"""Seconds for one input, and memory for all: more than any target needs."""
_SPARE_S = 300


@attrs.frozen
class Report:
    """What came of fuzzing one target.

    Attributes:
        target: Its name.
        runs: Inputs tried.
        edges: Edges of the code that some input reached.
        found: Files that hold inputs which were not read as promised.
        clean: Whether it ran its time and found nothing.
    """

    target: str
    runs: int
    edges: int
    found: tuple[Path, ...]
    clean: bool

    def __str__(self) -> str:
        verdict = "clean" if self.clean else f"NOT CLEAN, see {OUTPUT / self.target}.log"
        lines = [f"{self.target:12} {self.runs:>12,} runs {self.edges:>6,} edges  {verdict}"]
        lines += [f"    again: python -m tests.fuzz replay {self.target} {path}" for path in self.found]
        return "\n".join(lines)


def fuzz(target: str, seconds: int) -> Report:
    """Fuzz a target for so long, beginning with the corpus and with what earlier runs learnt."""
    folder = OUTPUT / target
    learnt = folder / "corpus"
    learnt.mkdir(parents=True, exist_ok=True)
    module = importlib.import_module(f"tests.fuzz.targets.{target}")
    words = folder / "words"
    words.write_text(dictionary(module.WORDS), encoding="ascii")
    before = set(folder.iterdir())
    command = [
        sys.executable, "-m", "tests.fuzz.drive", target, f"-max_total_time={seconds}", f"-max_len={module.LONGEST}",
        f"-dict={words}", f"-artifact_prefix={folder}/", "-print_final_stats=1", *_LIMITS, str(learnt),
        str(CORPUS / target),
    ]  # fmt: skip
    log = OUTPUT / f"{target}.log"
    with log.open("wb") as file:
        done = subprocess.run(  # noqa: S603 - our own command
            command, check=False, stdout=file, stderr=subprocess.STDOUT, timeout=seconds + _SPARE_S
        )
    runs, edges = read_log(log.read_text(errors="replace"))
    new = sorted(set(folder.iterdir()) - before)
    found = tuple(path for path in new if not path.name.startswith("slow-unit"))  # on a crowded machine anything may be
    return Report(target, runs, edges, found, clean=done.returncode == 0 and runs > 0 and not found)


def read_log(text: str) -> tuple[int, int]:
    """Read the number of runs and of edges out of what libFuzzer printed."""
    runs = re.findall(r"stat::number_of_executed_units: ([0-9]+)", text)
    edges = re.findall(r"\bcov: ([0-9]+)", text)
    return (int(runs[-1]) if runs else 0), (int(edges[-1]) if edges else 0)


def dictionary(words: Iterable[bytes]) -> str:
    """Spell words as libFuzzer reads them."""
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in words)
