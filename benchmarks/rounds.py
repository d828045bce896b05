"""Alternating runs: A B C A B C …, each contender in a fresh process against one canned gateway, all bounded.

Alternation lets a slow minute of the machine affect all contenders equally. After each run every file is compared
byte by byte with the image that was served, so that no contender is fast by losing some; then the files are emptied.
Images that stayed in memory are written into one file after the clock stops, and compared in the same way.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.certificate import Certificate, issued
from benchmarks.contender import KEPT, Measured
from benchmarks.contenders import EARLIER
from benchmarks.picture import png
from benchmarks.processes import RunFailedError, Served, python_of, run, served

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Plan", "Results", "gateway", "play"]

WRITES_NOTHING = frozenset({"bare", "bare-tenacity"})
SPARE = 2**30
"""Bytes of the disk that a run leaves free."""


@attrs.frozen(kw_only=True)
class Plan:
    """What to run.

    Attributes:
        contenders: Names, in the order of their runs.
        images: Images a run, by contender.
        rounds: Runs of each contender.
        size: Bytes of an image.
        n: Images a request.
        concurrency: Requests in flight.
        warm_up: Requests of each run before its clock starts.
        small_warm_up: Whether their images are small. A client may begin with few requests and find out how many it can
            have in flight; with small images that does not take as much memory and time as the run.
        in_loop: Peers write their files in the event loop, not in threads.
        hold: The gateway answers no request until so many wait.
        latency: Seconds before each response.
        tls: Whether the gateway speaks TLS.
        in_memory: Images stay in memory, of those contenders that can do that.
        stall: Seconds for which the disk stalls, every other time.
        touch: Whether as much memory as the run will need is touched before; see `contender`.
        limit: Seconds that one run may take.
        folder: Where a fresh folder is made, which stays there, or None for the system's place.
        against: Another checkout of the package, which contenders use whose names end in `EARLIER`.
    """

    contenders: tuple[str, ...]
    images: dict[str, int]
    rounds: int = 3
    size: int = 1_500_000
    n: int = 1
    concurrency: int = 32
    warm_up: int = 32
    small_warm_up: bool = False
    in_loop: bool = False
    hold: int = 1
    latency: float = 0.0
    tls: bool = False
    in_memory: bool = False
    stall: float = 0.0
    touch: bool = True
    limit: float = 300.0
    folder: Path | None = None
    against: Path | None = None


@attrs.frozen
class Results:
    """Every run, by contender; a contender with a reason in `absent` has no complete set of runs."""

    runs: dict[str, list[Measured]] = attrs.field(factory=dict)
    absent: dict[str, str] = attrs.field(factory=dict)


@attrs.frozen
class _Ground:
    """What all runs of a plan share: the image that is served, the certificate, the folder."""

    image: bytes
    certificate: Certificate | None
    folder: Path


def play(plan: Plan, *, tell: Callable[[str], None]) -> Results:
    """Run all rounds, and call `tell` with a line for each finished run.

    The files of the runs stay, emptied: their removal would be on the bill of what is measured in the next minutes.
    """
    folder = Path(tempfile.mkdtemp(prefix="scene-", dir=plan.folder)).resolve()
    return _play(plan, _Ground(png(plan.size), _certificate(plan, folder), folder), tell)


def _play(plan: Plan, ground: _Ground, tell: Callable[[str], None]) -> Results:
    results = Results(runs={name: [] for name in plan.contenders})
    for number in range(1, plan.rounds + 1):
        for name in plan.contenders:
            if name in results.absent:
                continue
            try:
                measured = _run_once(name, plan, ground, ground.folder / f"{number}-{name}")
            except RunFailedError as error:
                results.absent[name] = str(error)
                tell(f"round {number}: {name}: {error}")
                continue
            results.runs[name].append(measured)
            tell(f"round {number}: {name}: {measured.images / measured.seconds:.1f} images/s")
    return results


def _run_once(name: str, plan: Plan, ground: _Ground, out: Path) -> Measured:
    # A gateway of its own for each run: its gate closes again, and no connection outlives its client.
    _require_room(plan, name, ground.folder)
    out.mkdir()
    with _emptied(out), gateway(plan, ground.certificate) as server:
        said = _contender(name, server.url, out, plan, ground.certificate)
        if "missing" in said:
            raise RunFailedError(f"not installed ({said['missing']})")
        measured = Measured(**said)
        asked = -(-plan.images[name] // plan.n) * plan.n
        if measured.images != asked:
            raise RunFailedError(f"{measured.images} images received, {asked} asked for")
        if name not in WRITES_NOTHING:
            _verify(out / "images", ground.image, asked)
        if (held := server.last_words()["held"]) < plan.hold:
            raise RunFailedError(f"only {held} requests waited at once, not {plan.hold}")
        return measured


def _require_room(plan: Plan, name: str, folder: Path) -> None:
    needed = plan.images[name] * plan.size + SPARE
    if shutil.disk_usage(folder).free < needed:
        raise RunFailedError(f"not run: it takes {needed / 1e9:.0f} GB of free disk")


def _certificate(plan: Plan, folder: Path) -> Certificate | None:
    return issued(folder) if plan.tls else None


def _verify(folder: Path, image: bytes, asked: int) -> None:
    kept = folder / KEPT
    if kept.exists():
        whole, found = kept.read_bytes().count(image), kept.stat().st_size / len(image)
    else:
        # A batch keeps its journal beside its images.
        files = [path for path in _images_in(folder).rglob("*") if path.is_file()]
        whole, found = sum(path.read_bytes() == image for path in files), len(files)
    if not found == whole == asked:
        raise RunFailedError(f"{found:g} images kept, {whole} of them whole, {asked} asked for")


def _images_in(folder: Path) -> Path:
    return folder / "images" if (folder / "metadata.jsonl").exists() else folder


def _contender(name: str, url: str, out: Path, plan: Plan, certificate: Certificate | None) -> dict[str, Any]:
    options: dict[str, object] = {
        "--url": url,
        "--images": plan.images[name],
        "--concurrency": plan.concurrency,
        "--n": plan.n,
        "--warm-up": plan.warm_up,
        "--touch": plan.images[name] * plan.size if plan.touch else 0,
        "--stall": plan.stall,
        "--limit": plan.limit + 10,
        "--out": out,
    }
    if name.endswith(EARLIER):
        options["--checkout"] = plan.against
    name = name.removesuffix(EARLIER)
    words = [name, *(str(word) for option in options.items() for word in option)]
    words += ["--in-loop"] * plan.in_loop + ["--in-memory"] * plan.in_memory
    return run(
        "benchmarks.contender",
        *words,
        limit=plan.limit,
        settings=certificate.settings if certificate else None,
        python=python_of(name),
    )


@contextlib.contextmanager
def gateway(plan: Plan, certificate: Certificate | None = None) -> Iterator[Served]:
    """Run the canned gateway of `plan`."""
    options = [f"--size={plan.size}", f"--n={plan.n}", f"--latency={plan.latency}", f"--hold={plan.hold}"]
    if plan.small_warm_up:
        options.append(f"--small={plan.warm_up}")
    if certificate is not None:
        options.append(f"--certificate={certificate.server}")
    with served("benchmarks.server", *options) as server:
        yield server


@contextlib.contextmanager
def fresh_folder(parent: Path) -> Iterator[Path]:
    """Make a folder that is removed in the end, and `parent` with it if nothing else is in there."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="imagen-bench-", dir=parent)).resolve()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):
            parent.rmdir()


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
