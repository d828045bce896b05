"""The command line of the fuzzers: ``python -m tests.fuzz run`` needs atheris, ``replay`` does not."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.running import fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Fuzz, or read single inputs again; the exit status is 1 if anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz")
    commands = parser.add_subparsers(dest="command", required=True)
    running = commands.add_parser("run", help="fuzz every target, or those named")
    running.add_argument("targets", nargs="*", choices=[*TARGETS, []], metavar="TARGET", help=", ".join(TARGETS))
    running.add_argument("--minutes", type=float, default=10.0, help="for each (10)")
    running.add_argument("--at-once", type=int, default=os.cpu_count() or 1, help="how many side by side (all CPUs)")
    again = commands.add_parser("replay", help="read inputs again; what is wrong is raised")
    again.add_argument("target", choices=TARGETS)
    again.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    if given.command == "replay":
        return _replay(given.target, given.files)
    return _run(given.targets or list(TARGETS), round(60 * given.minutes), given.at_once)


def _run(targets: list[str], seconds: int, at_once: int) -> int:
    clean = True
    with ThreadPoolExecutor(at_once) as pool:
        for report in pool.map(lambda target: fuzz(target, seconds), targets):
            _say(str(report))
            clean = clean and report.clean
    return 0 if clean else 1


def _replay(target: str, files: list[Path]) -> int:
    check = importlib.import_module(f"tests.fuzz.targets.{target}").check
    for file in files:
        check(file.read_bytes())
        _say(f"{file}: read as promised")
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":  # pytest imports every module for its docstrings
    sys.exit(main())
