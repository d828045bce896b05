"""One contender in a process of its own: its imports, then the measured run, then one JSON line.

The clock runs from the first call to the last outcome. There is no warm-up, because it would reveal the limit.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import time
from functools import partial
from pathlib import Path

import attrs

from benchmarks.pacing.contenders import NAMES, Contender, Task, load

__all__ = ["Played", "main"]


@attrs.frozen(kw_only=True)
class Played:
    """What one run came to, by the contender's own count.

    Attributes:
        done: Jobs that gave their image.
        failed: Jobs that did not.
        seconds: Wall clock.
        shared: Jobs of each batch that had ended at the moment when the first batch ended.
    """

    done: int
    failed: int
    seconds: float
    shared: tuple[int, ...]


class Tally:
    """Counts the jobs of each batch, and looks at all of them when the first batch ends.

    Args:
        jobs: Of each batch.
    """

    def __init__(self, jobs: list[int]) -> None:
        self._jobs = jobs
        self.ended = [0] * len(jobs)
        self.done = 0
        self.shared: tuple[int, ...] = ()

    def told(self, batch: int, good: bool) -> None:  # noqa: FBT001 - what `Task.told` says
        """Count a job that ended."""
        self.done += good
        self.ended[batch] += 1
        if not self.shared and self.ended[batch] == self._jobs[batch]:
            self.shared = tuple(self.ended)


async def measure(contender: Contender, options: argparse.Namespace) -> Played:
    """Run all batches concurrently, and measure the time."""
    prompts = [_prompts(batch, options.jobs // options.batches) for batch in range(options.batches)]
    tally = Tally([len(own) for own in prompts])
    tasks = [
        Task(options.url, own, options.out / f"batch-{batch}", partial(tally.told, batch))
        for batch, own in enumerate(prompts)
    ]
    began = time.perf_counter()
    await asyncio.gather(*(contender(task) for task in tasks))
    seconds = time.perf_counter() - began
    return Played(done=tally.done, failed=sum(tally.ended) - tally.done, seconds=seconds, shared=tally.shared)


def _prompts(batch: int, count: int) -> list[str]:
    return [f"A cute baby sea otter, number {number} of batch {batch}" for number in range(count)]


def main() -> None:
    """Print one JSON object: a `Played`, or ``{"missing": …}`` when the contender's package is not installed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing.contender", description=__doc__)
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--url", required=True, help="the gateway, without a path")
    parser.add_argument("--jobs", type=int, required=True, help="in all")
    parser.add_argument("--batches", type=int, default=1, help="that share the jobs (%(default)s)")
    parser.add_argument("--limit", type=float, default=600.0, help="seconds until it kills itself (%(default)s)")
    parser.add_argument("--out", type=Path, required=True, help="a fresh folder")
    options = parser.parse_args()
    signal.alarm(math.ceil(options.limit))  # works even if the parent, which has its own limit, is gone
    try:
        contender = load(options.name)
    except ImportError as error:
        print(json.dumps({"missing": str(error)}))
        return
    print(json.dumps(attrs.asdict(asyncio.run(measure(contender, options)))))


if __name__ == "__main__":
    main()
