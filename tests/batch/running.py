"""Runs of a batch against a sandbox, and readers of its output folder."""

from __future__ import annotations

import asyncio
import json
import os
from typing import TYPE_CHECKING, Any, Literal

import attrs

from imagen_async import ImageRequest
from imagen_async.batch import Batch, Summary
from imagen_async.client.client import ImagenClient
from imagen_async.limiter.backoff import RetryPolicy
from imagen_async.outcome import Outcome
from imagen_async.sandbox import SandboxGateway, read_stamp
from tests.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path


__all__ = [
    "FOX",
    "OWL",
    "WHALE",
    "Held",
    "Run",
    "caught",
    "client",
    "errors",
    "files",
    "images",
    "lines",
    "metadata",
    "numbered",
    "prompts",
    "run",
    "strays",
]

FOX = "A red fox"
OWL = "An owl"
WHALE = "A blue whale"


def numbered(count: int, **fields: Any) -> list[ImageRequest]:
    """Requests that differ in their prompts."""
    return [ImageRequest(f"{FOX} number {number}", **fields) for number in range(count)]


class Held:
    """Work that a gateway does not finish before `let` is set: pass it as `sleep`, with any latency.

    Args:
        wanted: How many requests must be in work for `arrived` to be set.
        after: How many requests finish immediately before.
    """

    def __init__(self, wanted: int, *, after: int = 0) -> None:
        self.arrived = asyncio.Event()
        self.let = asyncio.Event()
        self._left = wanted
        self._after = after

    async def __call__(self, _: float) -> None:
        """Work."""
        if self._after:
            self._after -= 1
            return
        self._left -= 1
        if self._left <= 0:
            self.arrived.set()
        await self.let.wait()


def client(
    gateway: SandboxGateway,
    *,
    slots: int = 4,
    attempts: int = 5,
    on_ambiguous: Literal["once", "retry", "fail"] = "retry",
    sleep: Callable[[float], Awaitable[None]] | None = None,
    **options: Any,
) -> ImagenClient:
    """A client of `gateway` with a fake clock, so that it never waits."""
    runtime = FakeClock().runtime()
    runtime = runtime if sleep is None else attrs.evolve(runtime, sleep=sleep)
    options = {"api_key": gateway.api_key, "base_url": gateway.base_url, "_runtime": runtime, **options}
    retry = RetryPolicy(max_attempts=attempts, on_ambiguous=on_ambiguous, top_up=options.pop("top_up", 0))
    return ImagenClient(max_concurrency=slots, retry=retry, **options)


@attrs.frozen
class Run:
    """The result of one run."""

    outcomes: list[Outcome]
    summary: Summary
    error: BaseException | None = None

    @property
    def statuses(self) -> list[str]:
        """The statuses of the jobs, in the order in which they ended."""
        return [outcome.status.value for outcome in self.outcomes]


async def run(
    gateway: SandboxGateway,
    requests: Any,
    output: Path,
    *,
    asking: Mapping[str, Any] | None = None,
    each: Callable[[Batch, Outcome], object] | None = None,
    raising: bool = True,
    **options: Any,
) -> Run:
    """Run a batch to its end.

    Args:
        gateway: The sandbox.
        requests: The input.
        output: The output folder.
        asking: Options of the client.
        each: Called with each outcome.
        raising: Whether an error that stops the run is raised, or returned with the outcomes before it.
        **options: Options of the batch; fsync is off by default.
    """
    outcomes: list[Outcome] = []
    stopped: Exception | None = None
    async with (
        client(gateway, **(asking or {})) as asker,
        Batch(asker, requests, output=output, **{"fsync": False, **options}) as batch,
    ):
        try:
            async for outcome in batch:
                outcomes.append(outcome)
                if each is not None:
                    each(batch, outcome)
        except Exception as error:
            if raising:
                raise
            stopped = error
    return Run(outcomes, batch.summary, stopped)


async def caught(*arguments: Any, **options: Any) -> Run:
    """Like `run`, but an error that stops it is returned."""
    return await run(*arguments, raising=False, **options)


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSON lines file; none if it is not there."""
    return [json.loads(line) for line in path.read_bytes().splitlines()] if path.exists() else []


def metadata(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``metadata.jsonl``."""
    return lines(folder / "metadata.jsonl")


def errors(folder: Path) -> list[dict[str, Any]]:
    """The lines of ``errors.jsonl``."""
    return lines(folder / "errors.jsonl")


def files(folder: Path) -> set[str]:
    """Every file below ``images``, from `folder`, with forward slashes."""
    return {path.relative_to(folder).as_posix() for path in (folder / "images").rglob("*") if path.is_file()}


def images(folder: Path) -> dict[str, tuple[str, int]]:
    """The prompt and the index in its response that each file is stamped with; each line has its own file."""
    told = metadata(folder)
    names = [line["file_name"] for line in told]
    assert len(names) == len(set(names))
    assert set(names) == files(folder)
    stamps = {name: read_stamp((folder / name).read_bytes()) for name in names}
    for line in told:
        assert line["prompt"] == stamps[line["file_name"]]["prompt"]
    return {name: (str(stamp["prompt"]), int(stamp["index"])) for name, stamp in stamps.items()}


def prompts(folder: Path) -> list[str]:
    """The prompts that the images are stamped with, sorted; see `images`."""
    return sorted(prompt for prompt, _ in images(folder).values())


def strays(folder: Path) -> list[str]:
    """Temporary files, which no finished run leaves behind."""
    temporary = folder / ".imagen" / "tmp"
    left = [path.name for path in folder.iterdir() if path.name.endswith(".new")]
    return left + (os.listdir(temporary) if temporary.exists() else [])  # noqa: PTH208 - names are enough
