"""Measures each step of the pipeline for one image: ``python -m benchmarks.steps``.

Each run switches on one step more than the run before it, in a process of its own, against the canned gateway. The
module replaces private methods, because no public option switches a step off.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import attrs

from benchmarks.rounds import Plan, gateway
from imagen_async import ImagenClient, ImageRequest, LocalStore
from imagen_async.outcome import Image
from imagen_async.receiver.image_sink import ImageSink
from imagen_async.receiver.receiver import Body, Receiver
from imagen_async.receiver.threads import WriterThreads
from imagen_async.stores import ImageName, Kept

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagen_async.wire.decoder import Payload
    from imagen_async.wire.image import Facts

STEPS = {
    "drop": "read and dropped, with everything around the request",
    "find": "and passed through the decoder, which finds and skips payloads",
    "verify": "and decoded and verified",
    "hop": "and handed to a writer thread that does nothing",
    "write": "and written there: the complete pipeline",
    "thread": "complete, but decoded and verified in the writer thread",
    "loop": "complete, but all of it in the event loop",
}
_IMAGE = Image(index=0, format="png", width=1, height=1, size=1)


class _Nowhere:
    """A store and sink that keeps nothing."""

    writers = 1

    def open(self, _name: ImageName, /) -> _Nowhere:
        return self

    def write(self, _data: bytes | memoryview, /) -> None:
        """Forget it."""

    def commit(self, _facts: Facts, /) -> Kept:
        return Kept()

    def discard(self) -> None:
        """Nothing to forget."""


async def _drop(self: Receiver, body: Body) -> None:
    while await body.pump(lambda _chunk, _size: False):
        pass
    self._sinks = {0: SimpleNamespace(image=_IMAGE, open=False)}  # type: ignore[dict-item] # stands in for a sink


async def _in_the_loop(_self: WriterThreads, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    return work(*args, **kwargs)


def _gather_text(self: ImageSink, span: Payload) -> None:
    # Copied, for the memory that it lies in is about to be used again.
    kept = attrs.evolve(span, data=bytes(span.data))
    self.gathered.append(kept)  # type: ignore[arg-type] # text in the place of bytes, until `_decode_and_write`
    self.pending += len(kept.data)


def _decode_and_write(self: ImageSink, spans: list[Any], *, write: Callable[..., None] = ImageSink.write) -> None:
    parts = [part for span in spans for part in self._decoder.decode(span)]
    for part in parts:
        self._inspector.feed(part)
    write(self, parts)


def _commit_late(self: ImageSink, *args: Any, commit: Callable[..., None] = ImageSink.commit) -> None:
    if self.gathered:
        self.write(self.hand_over())
    for _ in self._decoder.flush():
        raise AssertionError("the benchmark's image has no text left over")
    self._facts = self._inspector.finish()
    commit(self, *args)


def _finish_unchecked(self: ImageSink) -> None:
    self.whole = True


def _commit_nothing(self: ImageSink, *_: Any) -> None:
    self.image = _IMAGE


def _switch_off(step: str) -> None:
    """Replace what `step` leaves out; for this process alone."""
    off: list[tuple[type, str, Any]] = []
    if step == "drop":
        off += [(Receiver, "_read", _drop)]
    if step == "find":
        off += [(ImageSink, "take", lambda *_: None), (ImageSink, "finish", _finish_unchecked)]
        off += [(ImageSink, "commit", _commit_nothing)]
    if step == "thread":
        off += [(ImageSink, "take", _gather_text), (ImageSink, "finish", _finish_unchecked)]
        off += [(ImageSink, "write", _decode_and_write)]
        off += [(ImageSink, "commit", _commit_late)]
    if step in {"find", "verify", "loop"}:
        off += [(WriterThreads, "run", _in_the_loop)]
    for owner, name, replacement in off:
        setattr(owner, name, replacement)


async def _measure(step: str, url: str, images: int, folder: str) -> dict[str, float]:
    store = LocalStore(folder) if step in {"write", "thread", "loop"} else _Nowhere()
    async with ImagenClient("sk-bench", f"{url}/v1", max_concurrency=32) as client:

        async def run(count: int) -> None:
            async with client.stream((ImageRequest(f"{n}") for n in range(count)), store=store) as outcomes:
                async for outcome in outcomes:
                    if outcome.error is not None:
                        raise outcome.error

        await run(32)
        cpu, clock = _cpu(), time.perf_counter()
        await run(images)
        return {"images/s": images / (time.perf_counter() - clock), "ms": (_cpu() - cpu) / images * 1e3}


def _cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _run(step: str, url: str, images: int, folder: Path | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="imagen-steps-", dir=folder) as fresh:
        words = ["--step", step, "--url", url, "--images", str(images), "--folder", fresh]
        command = [sys.executable, "-m", "benchmarks.steps", *words]
        said: dict[str, float] = json.loads(
            subprocess.run(command, capture_output=True, check=True, timeout=120).stdout
        )
        return said


def main() -> None:
    """Print the table, or with ``--step`` the figures of one step as JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.steps", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=500)
    parser.add_argument("--folder", type=Path, help="where images go; a tmpfs leaves the disk out")
    parser.add_argument("--step", choices=STEPS)
    parser.add_argument("--url")
    given = parser.parse_args()
    if given.step:
        _switch_off(given.step)
        print(json.dumps(asyncio.run(_measure(given.step, given.url, given.images, str(given.folder)))))
        return
    found: dict[str, list[dict[str, float]]] = {step: [] for step in STEPS}
    for _ in range(given.rounds):
        for step, figures in found.items():
            with gateway(Plan(contenders=(), images={})) as server:
                figures.append(_run(step, server.url, given.images, given.folder))
    print("| what is done with the body | images/s | CPU ms an image |\n| --- | ---: | ---: |")
    for step, text in STEPS.items():
        rate, ms = (statistics.median(each[name] for each in found[step]) for name in ("images/s", "ms"))
        print(f"| {text} | {rate:.0f} | {ms:.1f} |")


if __name__ == "__main__":
    main()
