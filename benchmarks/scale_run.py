"""One batch over a file of prompts, in a process of its own, as a user would write it; samples on the way.

It prints one JSON object at the end. With ``--kill`` it kills itself when the last job has ended, as the machine might,
so that the next run finds a journal that was not closed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from pathlib import Path

import attrs

from benchmarks import gauges
from imagen_async import Batch, ImagenClient
from imagen_async.batch import open_source

__all__ = ["Sample", "Told", "main"]


@attrs.frozen(kw_only=True)
class Sample:
    """The process after so many jobs; what is counted is counted from its start.

    Attributes:
        jobs: That have ended.
        seconds: On the clock, from the first outcome that was waited for.
        cpu_seconds: Of all its threads.
        peak_rss: Most bytes resident since the sample before.
        descriptors: Open files, sockets and pipes.
        journal: Bytes of the journal with its log.
    """

    jobs: int
    seconds: float
    cpu_seconds: float
    peak_rss: int
    descriptors: int
    journal: int


@attrs.frozen(kw_only=True)
class Told:
    """What one run says of itself.

    Attributes:
        statuses: How many jobs ended how.
        first_s: Seconds from the start of the process until the first outcome.
        seconds: Until the batch was closed.
        cpu_seconds: Of all its threads until then.
        peak_rss: Most bytes that were ever resident.
        samples: On the way.
    """

    statuses: dict[str, int]
    first_s: float
    seconds: float
    cpu_seconds: float
    peak_rss: int
    samples: list[Sample]


class Watch:
    """Takes samples.

    Args:
        output: The batch's folder.
        every: Jobs between two samples.
    """

    def __init__(self, output: Path, every: int) -> None:
        self.statuses: dict[str, int] = {}
        self.samples: list[Sample] = []
        self.first_s = 0.0
        self._journal = output / ".imagen" / "journal.sqlite"
        self._every = every
        self._jobs = 0

    def count(self, status: str) -> None:
        """Count a job that has ended."""
        self._jobs += 1
        self.statuses[status] = self.statuses.get(status, 0) + 1
        if self._jobs == 1:
            self.first_s = _age()
        if self._jobs % self._every == 0:
            self.take()

    def take(self) -> None:
        """Take a sample now."""
        log = self._journal.with_name(self._journal.name + "-wal")
        sample = Sample(
            jobs=self._jobs,
            seconds=_age() - self.first_s,
            cpu_seconds=gauges.cpu_seconds(),
            peak_rss=gauges.peak_rss(),
            descriptors=len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names are enough
            journal=sum(file.stat().st_size for file in (self._journal, log) if file.exists()),
        )
        self.samples.append(sample)
        gauges.reset_peak()

    def told(self) -> Told:
        """Say what was seen, at the end."""
        peak = max([gauges.peak_rss(), *(sample.peak_rss for sample in self.samples)])
        return Told(
            statuses=self.statuses,
            first_s=self.first_s,
            seconds=_age(),
            cpu_seconds=gauges.cpu_seconds(),
            peak_rss=peak,
            samples=self.samples,
        )


def _age() -> float:
    """Seconds since this process was started, with the interpreter and the imports."""
    began = int(Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - began / os.sysconf("SC_CLK_TCK")


async def run(options: argparse.Namespace) -> Told:
    """Run the batch to its end."""
    watch = Watch(options.output, options.every)
    async with ImagenClient("sk-of-nobody", options.url, max_concurrency=options.concurrency) as client:
        requests = open_source(options.prompts)
        async with Batch(client, requests, output=options.output, fsync=not options.no_fsync) as batch:
            async for outcome in batch:
                watch.count(outcome.status.value)
            if options.kill:
                os.kill(os.getpid(), signal.SIGKILL)
    return watch.told()


def main() -> None:
    """Print one JSON object: a `Told`."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale_run", description=__doc__)
    parser.add_argument("prompts", type=Path, help="a file of prompts, JSON lines")
    parser.add_argument("output", type=Path, help="the output folder")
    parser.add_argument("--url", required=True, help="the canned gateway, without a path")
    parser.add_argument("--concurrency", type=int, default=32, help="requests in flight (%(default)s)")
    parser.add_argument("--every", type=int, default=10_000, help="jobs between two samples (%(default)s)")
    parser.add_argument("--no-fsync", action="store_true", help="do not wait for the disk")
    parser.add_argument("--kill", action="store_true", help="end by SIGKILL, before the batch is closed")
    options = parser.parse_args()
    print(json.dumps(attrs.asdict(asyncio.run(run(options)))))


if __name__ == "__main__":
    main()
