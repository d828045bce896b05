"""Many tiny jobs with every kind of fault: each ends exactly once, and memory has not grown at the end.

``python -m tests.torture.soak`` runs half of the jobs through `ImagenClient.stream` and half through `Batch`,
concurrently over one client, against a sandbox in another process. Memory, descriptors and tasks are counted twice,
when no job is in flight and idle connections are closed: after the first jobs, and at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs

from imagen_async import Batch, ImagenClient, ImageRequest, Outcome
from imagen_async.events import Event, Retry
from imagen_async.exceptions import AuthenticationError, ModelNotFoundError, OutageError, PermissionDeniedError
from imagen_async.limiter.backoff import RetryPolicy
from imagen_async.limiter.circuit import RetryQuota
from imagen_async.sandbox import FAULTS
from tests.torture.held import Held, grown, settled
from tests.torture.soak_gateway import Gateway, gateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

__all__ = ["Soak", "main"]

FATAL = ("401", "403", "503-model-not-found")
"""Each ends a run, which the next one resumes; so they are rarer than the others."""
SELDOM = 0.1
STOPS = (AuthenticationError, PermissionDeniedError, ModelNotFoundError, OutageError)
SLOTS = 16
_BETWEEN_LINES = 30.0


def rates(total: float) -> dict[str, float]:
    """Spread the share of requests that meet a fault over every kind."""
    kinds = [name for name in FAULTS if not name.startswith("odd-wrapping:")]  # `odd-wrapping` draws one of those
    weights = {name: SELDOM if name in FATAL else 1.0 for name in kinds}
    return {name: total * weight / sum(weights.values()) for name, weight in weights.items()}


@attrs.define
class Soak:
    """What has been seen.

    Attributes:
        statuses: How the jobs ended.
        kept: Images kept.
        doubted: Images that may have been billed and did not arrive.
        stops: What ended a run before its time.
        wrong: The broken promises.
    """

    statuses: Counter[str] = attrs.field(factory=Counter)
    kept: int = 0
    doubted: int = 0
    stops: Counter[str] = attrs.field(factory=Counter)
    wrong: list[str] = attrs.field(factory=list)

    def blame(self, words: str) -> None:
        """Note what must not happen."""
        if len(self.wrong) < 20:
            self.wrong.append(words)


class Lane:
    """One half of the jobs, in order, through one way of sending them; a run that is stopped is followed by another.

    Args:
        name: What its jobs' ids begin with.
        jobs: How many.
        open_run: Begins a run over requests.
        soak: What is seen goes there.
    """

    def __init__(
        self, name: str, jobs: int, open_run: Callable[[AsyncIterator[ImageRequest]], Any], soak: Soak
    ) -> None:
        self.name = name
        self._open_run = open_run
        self._soak = soak
        self._ended = bytearray(jobs)
        self._allowed = asyncio.Condition()
        self._limit = 0
        self._over = False
        self._pending: dict[str, int] = {}
        """Doubts of jobs that have not ended."""

    async def allow(self, limit: int, *, over: bool = False) -> None:
        """Let the jobs up to `limit` be sent; with `over`, let the run end after them."""
        async with self._allowed:
            self._limit, self._over = min(limit, len(self._ended)), over
            self._allowed.notify_all()

    async def quiet(self) -> None:
        """Wait until every job that is allowed has ended."""
        while 0 in self._ended[: self._limit]:  # noqa: ASYNC110 - an event would cost each job, and is not faster
            await asyncio.sleep(0.1)

    async def run(self) -> None:
        """Run until every job has ended."""
        while not self._over:
            try:
                async with self._open_run(self._requests()) as outcomes:
                    async for outcome in outcomes:
                        self._count(outcome)
            except STOPS as error:
                self._soak.stops[type(error).__name__] += 1
                # The jobs that were stopped start again, and their bills count.
                self._soak.doubted += sum(self._pending.values())
                self._pending.clear()

    def hear(self, event: Event) -> None:
        """Note what a job that is tried again may have been billed for."""
        if isinstance(event, Retry) and str(event.request.id).startswith(self.name):
            job = str(event.request.id)
            self._pending[job] = self._pending.get(job, 0) + event.failed.doubtful

    async def _requests(self) -> AsyncIterator[ImageRequest]:
        for number in range(len(self._ended)):
            if number >= self._limit:
                async with self._allowed:
                    await self._allowed.wait_for(lambda: number < self._limit or self._over)  # noqa: B023 - awaited here
            if not self._ended[number]:
                yield ImageRequest(f"A red fox number {number}", id=f"{self.name}{number}", n=1 + (number % 4 == 0))
        async with self._allowed:
            await self._allowed.wait_for(lambda: self._over)

    def _count(self, outcome: Outcome) -> None:
        job = str(outcome.request.id)
        number = int(job.removeprefix(self.name))
        if self._ended[number]:
            self._soak.blame(f"{job} ended twice, now as {outcome.status}")
        if outcome.status == "skipped":
            self._soak.blame(f"{job} had ended without an outcome")
        self._ended[number] = 1
        self._pending.pop(job, None)
        self._soak.statuses[outcome.status.value] += 1
        self._soak.kept += len(outcome.images)
        self._soak.doubted += sum(attempt.doubtful for attempt in outcome.attempts)


@attrs.frozen
class Report:
    """What a soak came to.

    Attributes:
        soak: What was seen.
        first: What the process held after the first jobs.
        last: What it held at the end.
        ledger: The gateway's counts.
        seconds: How long it took.
    """

    soak: Soak
    first: Held
    last: Held
    ledger: Mapping[str, Any]
    seconds: float

    def problems(self, jobs: int) -> list[str]:
        """Return the broken promises."""
        soak, billed = self.soak, self.ledger["billed"]
        told = soak.statuses.total()
        money = f"{billed} images were billed; {soak.kept} were kept and {soak.doubted} are in doubt"
        return [
            *soak.wrong,
            *([f"{told} outcomes of {jobs} jobs"] if told != jobs else []),
            *([money] if not soak.kept <= billed <= soak.kept + soak.doubted else []),
            *(f"{name} grew from {before:,} to {after:,}" for name, before, after in grown(self.first, self.last)),
        ]


def _client(sandbox: Gateway, lanes: list[Lane]) -> ImagenClient:
    """A client that hardly waits between attempts, and whose idle connections soon close."""

    def listen(event: Event) -> None:
        for lane in lanes:
            lane.hear(event)

    return ImagenClient(
        sandbox.api_key,
        sandbox.base_url,
        max_concurrency=SLOTS,
        retry=RetryPolicy(initial=0.01, longest=0.05),
        quota=RetryQuota(cooldown=0.05),
        connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=1.0),
        callbacks=[listen],
    )


async def _watch(soak: Soak) -> None:
    """Print the progress at intervals, because a soak takes half an hour."""
    while True:
        await asyncio.sleep(_BETWEEN_LINES)
        held = ", ".join(f"{count:,} {name}" for name, count in Held.now().counts.items())
        _say(f"  {soak.statuses.total():>9,} jobs: {held}")


async def _soak(sandbox: Gateway, folder: Path, jobs: int, first: int) -> tuple[Soak, Held, Held]:
    soak, lanes = Soak(), list[Lane]()
    # The pool behind asyncio.to_thread starts its threads one by one, whenever all it has are busy.
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    async with _client(sandbox, lanes) as client:
        lanes += [
            Lane("s", jobs - jobs // 2, client.stream, soak),
            Lane("b", jobs // 2, lambda requests: Batch(client, requests, output=folder, fsync=False), soak),
        ]
        async with asyncio.TaskGroup() as running:
            watching = running.create_task(_watch(soak))
            for lane in lanes:
                running.create_task(lane.run())
            held = []
            for limit in (first // 2, jobs):
                for lane in lanes:
                    await lane.allow(limit)
                await asyncio.gather(*(lane.quiet() for lane in lanes))
                held.append(await settled())
            for lane in lanes:
                await lane.allow(jobs, over=True)
            watching.cancel()
    return soak, held[0], held[1]


def run(jobs: int, faults: float, *, first: int, limit_s: float, seed: int = 0) -> Report:
    """Soak for at most `limit_s` seconds, in a folder that is removed afterwards.

    Raises:
        TimeoutError: It took longer.
    """
    options = {
        "images": "tiny", "faults": rates(faults), "slow_s": 0.05, "stall_s": 0.02, "retry_after": 0.05, "seed": seed,
    }  # fmt: skip
    began = time.monotonic()

    async def limited(sandbox: Gateway, folder: Path) -> tuple[Soak, Held, Held]:
        async with asyncio.timeout(limit_s):
            return await _soak(sandbox, folder, jobs, first)

    with tempfile.TemporaryDirectory(prefix="imagen-soak-") as folder, gateway(options) as sandbox:
        soak, before, after = asyncio.run(limited(sandbox, Path(folder) / "out"))
        return Report(soak, before, after, sandbox.counts(), time.monotonic() - began)


def main() -> int:
    """Soak, print what came of it, and return the exit status: 1 if anything is not as promised."""
    parser = argparse.ArgumentParser(prog="python -m tests.torture.soak", description=__doc__.partition("\n")[0])
    parser.add_argument("--jobs", type=int, default=200_000)
    parser.add_argument("--faults", type=float, default=0.05, help="share of requests that meet one (0.05)")
    parser.add_argument("--first", type=int, default=5000, help="jobs before the first count (5000)")
    parser.add_argument("--limit", type=float, default=3600, metavar="S", help="longest time it may take (3600)")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    _share_one_arena()
    report = run(given.jobs, given.faults, first=given.first, limit_s=given.limit, seed=given.seed)
    _print(report)
    problems = report.problems(given.jobs)
    _say("\n".join(f"WRONG: {problem}" for problem in problems) or "as promised")
    return 1 if problems else 0


def _share_one_arena() -> None:
    """Start again with one malloc arena for all threads.

    By default glibc gives each new thread another one and keeps what each once held, megabytes a thread that look like
    a leak as long as new threads come.
    """
    if "MALLOC_ARENA_MAX" not in os.environ:
        environment = {**os.environ, "MALLOC_ARENA_MAX": "1"}
        os.execve(sys.executable, [sys.executable, "-m", "tests.torture.soak", *sys.argv[1:]], environment)  # noqa: S606 - ours


def _print(report: Report) -> None:
    soak, ledger = report.soak, report.ledger
    _say(f"{soak.statuses.total():,} jobs in {report.seconds:,.0f} s: {_counted(soak.statuses)}")
    _say(f"{ledger['requests']:,} requests; stopped by {_counted(soak.stops)}")
    _say(f"faults: {_counted(Counter(ledger['faults']))}")
    _say(f"images: {ledger['billed']:,} billed, {soak.kept:,} kept, {soak.doubted:,} in doubt")
    for name, before in report.first.counts.items():
        _say(f"  {name:12} {before:>12,} {report.last.counts[name]:>12,}")


def _counted(counter: Counter[str]) -> str:
    return ", ".join(f"{times:,} {name}" for name, times in counter.most_common()) or "nothing"


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
