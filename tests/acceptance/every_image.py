"""Runs all prompts of a file through the sandbox: each has its own image, and the folder loads in other tools."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from tests.acceptance.outside import Verdict, check_images, metadata, wanted_images

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

__all__ = ["run"]


def run(prompts: Path, folder: Path, options: Sequence[str]) -> int:
    """Run the command, then look at what it left."""
    verdict, output = Verdict(), folder / "out"
    command = [
        sys.executable,
        "-m",
        "imagen_async",
        "run",
        str(prompts),
        "--output",
        str(output),
        "--sandbox",
        "--json",
    ]
    began = time.monotonic()
    child = subprocess.Popen([*command, *options], stdout=subprocess.PIPE)  # noqa: S603 - our own command line
    assert child.stdout is not None
    told = child.stdout.read()
    _, status, usage = os.wait4(child.pid, 0)
    elapsed = time.monotonic() - began
    summary = json.loads(told.splitlines()[-1])
    wanted = wanted_images(prompts)
    verdict.say(f"{len(wanted)} different prompts, {summary['images']} images, {summary['bytes'] / 1e9:.2f} GB")
    verdict.say(
        f"{summary['images'] / summary['elapsed_s']:.1f} images/s, {elapsed:.1f} s in all, the gateway included"
    )
    verdict.say(f"peak memory {usage.ru_maxrss / 1024:.0f} MiB, the gateway and its pictures included")
    verdict.check(
        "the command says that every job succeeded", holds=status == 0 and summary["images"] == wanted.total()
    )
    lines = metadata(output)
    check_images(verdict, output, lines, wanted)
    _load(verdict, output, len(lines))
    return verdict.exit_status


def _load(verdict: Verdict, output: Path, count: int) -> None:
    """Load the folder with what people load such folders with, as far as it is installed."""
    try:
        datasets = importlib.import_module("datasets")
    except ImportError:
        verdict.say("not installed: datasets")
    else:
        loaded = datasets.load_dataset(
            "imagefolder", data_dir=str(output), split="train", cache_dir=str(output.parent / "hf")
        )
        first = loaded[0]
        verdict.check(
            "datasets loads it as an imagefolder",
            holds=len(loaded) == count and first["image"].size == (first["width"], first["height"]),
            detail=f"{len(loaded)} rows, {', '.join(loaded.column_names)}",
        )
    try:
        duckdb = importlib.import_module("duckdb")
    except ImportError:
        verdict.say("not installed: duckdb")
    else:
        query = "SELECT count(*), count(DISTINCT file_name), sum(bytes) FROM read_json_auto(?)"
        rows, files, _ = duckdb.execute(query, [str(output / "metadata.jsonl")]).fetchone()
        verdict.check("DuckDB reads metadata.jsonl", holds=rows == files == count, detail=f"{rows} rows")
