"""``python -m benchmarks.scale``: a batch of a million rows of tiny images, its restarts, and its status.

The batch runs in a process of its own, as a user would write it, against a canned gateway in another, and takes a
sample every 10,000 jobs. Then the finished batch is started again, by the command line and by `Batch`; it is killed and
started again; and ``imagen-async status`` is asked. Figures go to ``benchmarks/results/scale.json``, the table to
``scale.md`` beside it.

The images of a million rows are 4 GB on a disk with blocks of 4 KiB, and a million inodes. With ``--folder`` in memory
(``/dev/shm``) no fsync costs anything, so that the figures are the package's and not the disk's.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.arguments import natural
from benchmarks.machine import described
from benchmarks.processes import HOME, RunFailedError, run, served
from benchmarks.scale_run import Sample, Told
from benchmarks.scale_table import Command, Results, as_markdown

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

RESULTS = HOME / "benchmarks" / "results"
ROWS = 1_000_000
SAMPLES = 100
LONGEST_S = 2 * 3600.0
NOWHERE = "http://127.0.0.1:9/v1"
"""Who starts a finished batch again needs no gateway."""


def main() -> int:
    """Run the command line; 0 if every job succeeded."""
    options = _options()
    settings = f"{options.rows:,} rows, {options.concurrency} slots, fsync {'off' if options.no_fsync else 'on'}."
    where = f"{described('imagen-async', 'aiohttp')} {settings}"
    folder = Path(options.folder or tempfile.mkdtemp(prefix="imagen-scale-", dir=_in_memory()))
    results = Results(rows=options.rows, batch=_kept_batch(options.results) if options.again else None)
    try:
        for figures in _phases(options, folder):
            results = attrs.evolve(results, **figures)
            _keep(options.results, results, where)  # after each phase, because one may take half an hour
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(where, as_markdown(results), sep="\n\n")
    told = results.batch
    return int(told is not None and told.statuses != {"succeeded": options.rows})


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--rows", type=natural, default=ROWS, help="rows of the file of prompts (%(default)s)")
    parser.add_argument("--concurrency", type=natural, default=32, help="requests in flight (%(default)s)")
    parser.add_argument("--no-fsync", action="store_true", help="do not wait for the disk")
    parser.add_argument("--folder", help="where all of it goes; by default in memory, else where temporary files go")
    parser.add_argument("--keep", action="store_true", help="leave the folder, for --again")
    parser.add_argument(
        "--again", action="store_true", help="measure only the phases after the batch, on a kept folder"
    )
    parser.add_argument("--results", type=Path, default=RESULTS / "scale.json", help="where the figures go")
    return parser.parse_args()


def _in_memory() -> str | None:
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a fresh folder is made in it


def _phases(options: argparse.Namespace, folder: Path) -> Iterator[dict[str, Any]]:
    """Run one phase after the other; each is a field of `Results`."""
    prompts, output = folder / "prompts.jsonl", folder / "out"
    words = ("run", str(prompts), "--output", str(output), "--progress", "off", "--json")
    if not options.again:
        folder.mkdir(exist_ok=True)
        _write_prompts(prompts, options.rows)
        yield {"batch": _batch(options, prompts, output)}
    yield {"status": _command("status", str(output))}
    yield {"again": _batch(options, prompts, output)}
    yield {"run": _command(*words)}
    _kill(options, prompts, output)
    yield {"killed": _command(*words)}


def _write_prompts(path: Path, rows: int) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(1, rows + 1):
            file.write(
                json.dumps({"id": f"otter-{number}", "prompt": f"A cute baby sea otter, number {number}"}) + "\n"
            )


def _batch(options: argparse.Namespace, prompts: Path, output: Path, *more: str) -> Told:
    words = [str(prompts), str(output), "--concurrency", str(options.concurrency), *more]
    words += ["--every", str(max(1, options.rows // SAMPLES))] + ["--no-fsync"] * options.no_fsync
    with served("benchmarks.scale_server") as server:
        return _told(run("benchmarks.scale_run", *words, "--url", server.url, limit=LONGEST_S))


def _kill(options: argparse.Namespace, prompts: Path, output: Path) -> None:
    """Add a few rows to the file, and kill the run that does them before it can close its journal."""
    _write_prompts(prompts, options.rows + max(1, options.rows // SAMPLES))
    try:
        _batch(options, prompts, output, "--kill")
    except RunFailedError as error:
        if f"status {-int(signal.SIGKILL)}" not in str(error):
            raise


def _told(said: dict[str, Any]) -> Told:
    return Told(**{**said, "samples": [Sample(**sample) for sample in said["samples"]]})


def _command(*words: str) -> Command:
    """Run the command line as a user does, and wait for its end.

    Raises:
        RunFailedError: It did not end well.
    """
    environment = {**os.environ, "IMAGEN_API_KEY": "sk-of-nobody", "IMAGEN_BASE_URL": NOWHERE, "PYTHONPATH": str(HOME)}
    with tempfile.TemporaryFile() as said:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "imagen_async", *words], stdout=said, stderr=subprocess.DEVNULL, env=environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise RunFailedError(f"imagen-async {words[0]} ended with status {process.returncode}")
        said.seek(0)
        lines = said.read().decode().splitlines()
    return Command(seconds=seconds, peak_rss=1024 * usage.ru_maxrss, said=lines[-1] if lines else "")


def _kept_batch(file: Path) -> Told | None:
    return _told(told) if (told := json.loads(file.read_text(encoding="utf-8"))["batch"]) else None


def _keep(file: Path, results: Results, where: str) -> None:
    now = datetime.now(UTC).isoformat(timespec="seconds")
    kept = {"at": now, "environment": where, **attrs.asdict(results)}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(f"{where}\n\n{as_markdown(results)}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
