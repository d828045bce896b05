"""One contender in a process of its own: imports, a short warm-up, then the measured run, then one JSON line.

What is measured begins when the imports are done, the client is open and its connections and lazy parts are warm;
the peak of memory counts from the end of the imports. A process measures one run only, so that no contender
inherits another's heap.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import sys
import time
from pathlib import Path

import attrs

from benchmarks import gauges
from benchmarks.contenders import NAMES, Contender, Task, load

__all__ = ["KEPT", "Measured", "main"]

KEPT = "kept"
"""The file beside which there are none: all images that a contender kept in memory, written when the clock stands."""


@attrs.frozen(kw_only=True)
class Measured:
    """What one run came to.

    Attributes:
        images: Received, by the contender's own count.
        seconds: Wall clock of the measured run.
        cpu_seconds: Of this process, all threads.
        rss_before: Bytes resident after the imports.
        peak_rss: Most bytes resident since then.
        peak_reset: Whether the system let the peak be reset; if not, it includes the imports'.
        lag_p50: Seconds that the event loop ran late.
        lag_p99: 99th percentile of the loop lag, in milliseconds.
        lag_max: Maximum of the loop lag, in milliseconds.
        beats: How many samples of it there are.
        descriptors: Most open at once, besides those that were open before the client was.
    """

    images: int
    seconds: float
    cpu_seconds: float
    rss_before: int
    peak_rss: int
    peak_reset: bool
    lag_p50: float
    lag_p99: float
    lag_max: float
    beats: int
    descriptors: int = 0


async def measure(contender: Contender, options: argparse.Namespace) -> Measured:
    """Run a contender once, warm-up and all."""
    peak_reset = gauges.reset_peak()
    rss_before, open_before = gauges.rss(), gauges.descriptors()
    task = _task(options)
    async with contender.opened(task) as run:
        if options.warm_up:
            await run(_prompts(options.warm_up), _folder(options.out / "warm-up"))
            task.kept.clear()
        out = _folder(options.out / "images")
        prompts = _prompts(-(-options.images // options.n))
        _touch_memory(options.out, options.touch)
        async with gauges.heartbeat() as beats:
            cpu, clock = gauges.cpu_seconds(), time.perf_counter()
            images = await run(prompts, out)
            seconds, cpu_seconds = time.perf_counter() - clock, gauges.cpu_seconds() - cpu
    peak_rss = gauges.peak_rss()
    if task.kept:
        (out / KEPT).write_bytes(b"".join(task.kept))
    return Measured(
        images=images,
        seconds=seconds,
        cpu_seconds=cpu_seconds,
        rss_before=rss_before,
        peak_rss=peak_rss,
        peak_reset=peak_reset,
        lag_p50=beats.quantile(0.5),
        lag_p99=beats.quantile(0.99),
        lag_max=beats.quantile(1.0),
        beats=len(beats.late),
        descriptors=beats.descriptors - open_before,
    )


def _task(options: argparse.Namespace) -> Task:
    return Task(
        url=options.url,
        concurrency=options.concurrency,
        n=options.n,
        threads=not options.in_loop,
        in_memory=options.in_memory,
        stall=options.stall,
    )


def _touch_memory(folder: Path, size: int) -> None:
    """Write as much as the run will write, in one file, and remove it.

    On a virtual machine the first touch of a page may cost more than all else that a contender does with it. What was
    just freed is used again first, so nobody's figure holds that cost, for as long as the system leaves it: some give
    free pages back to their host after two seconds. So this comes right before the clock starts, and runs are short.
    """
    if not size:
        return
    path, block = folder / "touched", b"\1" * 2**20
    with path.open("wb") as file:
        for _ in range(size // len(block) + 64):
            file.write(block)
    path.unlink()


def _prompts(count: int) -> list[str]:
    return [f"A cute baby sea otter, number {number}" for number in range(count)]


def _folder(path: Path) -> Path:
    path.mkdir(parents=True)
    return path


def main() -> None:
    """Print one JSON object: a `Measured`, or ``{"missing": …}`` when the contender's package is not installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.contender", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--url", required=True, help="the canned gateway, without a path")
    parser.add_argument("--images", type=int, required=True, help="images to ask for, in all")
    parser.add_argument("--concurrency", type=int, required=True, help="requests in flight")
    parser.add_argument("--n", type=int, default=1, help="images a request (%(default)s)")
    parser.add_argument("--warm-up", type=int, default=0, help="requests before the clock starts (%(default)s)")
    parser.add_argument("--touch", type=int, default=0, help="bytes of memory to touch before (%(default)s)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds until it kills itself (%(default)s)")
    parser.add_argument("--in-loop", action="store_true", help="peers write their files in the loop, not in threads")
    parser.add_argument("--in-memory", action="store_true", help="keep images in memory, for contenders that can")
    parser.add_argument("--stall", type=float, default=0.0, help="seconds for which the disk stalls, every other time")
    parser.add_argument("--out", type=Path, required=True, help="a fresh folder")
    parser.add_argument("--checkout", type=Path, help="another checkout of imagen-async, to use its package")
    options = parser.parse_args()
    signal.alarm(math.ceil(options.limit))  # works even if the parent, which has its own limit, is gone
    if options.checkout is not None:
        sys.path.insert(0, str(options.checkout))
    try:
        contender = load(options.name)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    with asyncio.Runner(loop_factory=contender.loop_factory) as runner:
        print(json.dumps(attrs.asdict(runner.run(measure(contender, options)))))


if __name__ == "__main__":
    main()
