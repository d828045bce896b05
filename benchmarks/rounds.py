"""Alternating runs: A B C A B C …, each contender in a fresh process against one canned gateway, all bounded.

Alternation lets a slow minute of the machine hit everybody alike. After each run every file is compared byte by
byte with the image that was served, so that no contender is fast by losing some; then the files are emptied.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.contender import Measured
from benchmarks.picture import png
from benchmarks.processes import RunFailedError, run, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Plan", "Results", "gateway", "play"]

WRITES_NOTHING = "bare"


@attrs.frozen(kw_only=True)
class Plan:
    """What to run.

    Attributes:
        contenders: Names, in the order of play.
        images: Images a run, by contender.
        rounds: Runs of each contender.
        size: Bytes of an image.
        n: Images a request.
        concurrency: Requests at once.
        warm_up: Requests of each run before its clock starts.
        in_loop: Peers write their files in the event loop, not in threads.
        hold: The gateway answers nobody until so many requests wait.
        latency: Seconds before every answer.
        limit: Seconds that one run may take.
        folder: Where the fresh folders are made, or None for the system's place.
    """

    contenders: tuple[str, ...]
    images: dict[str, int]
    rounds: int = 3
    size: int = 1_500_000
    n: int = 1
    concurrency: int = 32
    warm_up: int = 32
    in_loop: bool = False
    hold: int = 1
    latency: float = 0.0
    limit: float = 300.0
    folder: Path | None = None


@attrs.frozen
class Results:
    """Every run, by contender; a contender with a reason in `absent` has no complete set of runs."""

    runs: dict[str, list[Measured]] = attrs.field(factory=dict)
    absent: dict[str, str] = attrs.field(factory=dict)


def play(plan: Plan, *, tell: Callable[[str], None]) -> Results:
    """Play all rounds; `tell` hears of each run as it ends."""
    with _fresh_folder(plan.folder) as folder:
        return _play(plan, folder, tell)


def _play(plan: Plan, folder: Path, tell: Callable[[str], None]) -> Results:
    results = Results(runs={name: [] for name in plan.contenders})
    image = png(plan.size)
    for number in range(1, plan.rounds + 1):
        for name in plan.contenders:
            if name in results.absent:
                continue
            try:
                measured = _run_once(name, plan, image, folder / f"{number}-{name}")
            except RunFailedError as error:
                results.absent[name] = str(error)
                tell(f"round {number}: {name}: {error}")
                continue
            results.runs[name].append(measured)
            tell(f"round {number}: {name}: {measured.images / measured.seconds:.1f} images/s")
    return results


def _run_once(name: str, plan: Plan, image: bytes, out: Path) -> Measured:
    # A gateway of its own for each run: its gate closes again, and no connection outlives its client.
    out.mkdir()
    with _emptied(out), gateway(plan) as url:
        said = _contender(name, url, out, plan)
        if "missing" in said:
            raise RunFailedError(f"not installed ({said['missing']})")
        measured = Measured(**said)
        asked = -(-plan.images[name] // plan.n) * plan.n
        if measured.images != asked:
            raise RunFailedError(f"{measured.images} images received, {asked} asked for")
        if name != WRITES_NOTHING:
            _verify(out / "images", image, asked)
        return measured


def _verify(folder: Path, image: bytes, asked: int) -> None:
    files = [path for path in folder.rglob("*") if path.is_file()]
    whole = sum(path.read_bytes() == image for path in files)
    if not len(files) == whole == asked:
        raise RunFailedError(f"{len(files)} files, {whole} of them whole, {asked} images asked for")


def _contender(name: str, url: str, out: Path, plan: Plan) -> dict[str, Any]:
    options: dict[str, object] = {
        "--url": url,
        "--images": plan.images[name],
        "--concurrency": plan.concurrency,
        "--n": plan.n,
        "--warm-up": plan.warm_up,
        "--touch": plan.images[name] * plan.size,
        "--limit": plan.limit + 10,
        "--out": out,
    }
    words = [name, *(str(word) for option in options.items() for word in option)]
    if plan.in_loop:
        words.append("--in-loop")
    return run("benchmarks.contender", *words, limit=plan.limit)


@contextlib.contextmanager
def gateway(plan: Plan) -> Iterator[str]:
    """Run the canned gateway of `plan` and give its URL."""
    options = [f"--size={plan.size}", f"--n={plan.n}", f"--latency={plan.latency}", f"--hold={plan.hold}"]
    with served("benchmarks.server", *options) as server:
        yield server.url


@contextlib.contextmanager
def _fresh_folder(parent: Path | None) -> Iterator[Path]:
    if parent is not None:
        parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="imagen-bench-", dir=parent)).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """Give back the bytes of all files in `folder` at the end, but not yet the files.

    For a minute or more, ext4 steps over every inode that was just deleted, one by one, when it makes a new file, which
    would be on the bill of whoever runs next.
    """
    try:
        yield
    finally:
        for path in folder.rglob("*"):
            if path.is_file():
                os.truncate(path, 0)
        os.sync()  # nor is what the system has still to do for this run
