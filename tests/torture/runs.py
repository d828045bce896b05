"""Runs one small batch: in a process of its own, under strace, or here; and makes the folder for it."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import attrs

from imagen_async import ImageRequest
from imagen_async.batch import open_source
from imagen_async.sandbox import SandboxGateway, read_ledger, running_sandbox
from tests.batch.running import FOX, run
from tests.torture.child import Order

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

Tracer: TypeAlias = Callable[[int], Sequence[str]]

__all__ = ["REQUESTS", "SLOTS", "Ended", "Forge", "Scene", "Tracer", "resume"]

REQUESTS = [ImageRequest(f"{FOX} number {number}", id=f"job{number}", n=n) for number, n in enumerate((2, 1, 1))]
SLOTS = 2
TIME_LIMIT_S = 30.0
LATENCY = (0.005, 0.02)
FAULTS = {"truncate": 0.5, "500": 0.5}


@attrs.frozen
class Scene:
    """A folder with all that a run needs, and all that it leaves.

    Attributes:
        folder: Absolute, without links in it.
        faulty: Whether the gateway breaks its answer to each request that it has not seen before.
    """

    folder: Path
    faulty: bool = False

    @property
    def output(self) -> Path:
        """What the runs work on."""
        return self.folder / "out"

    @property
    def ledger(self) -> Path:
        """What the gateway has noted."""
        return self.folder / "ledger.jsonl"

    @property
    def prompts(self) -> Path:
        """What the runs read."""
        return self.folder / "prompts.jsonl"

    @classmethod
    def fresh(cls, folder: Path) -> Scene:
        """Make one in which nothing has run."""
        folder.mkdir(parents=True)
        scene = cls(folder.resolve())
        rows = ({"id": each.id, "prompt": each.prompt, "n": each.n} for each in REQUESTS)
        scene.prompts.write_text("".join(json.dumps(row) + "\n" for row in rows))
        scene.ledger.touch()
        return scene

    def copied(self, folder: Path) -> Scene:
        """Make the same elsewhere."""
        shutil.copytree(self.folder, folder)
        return attrs.evolve(self, folder=folder.resolve())

    def gateway(self) -> AbstractContextManager[SandboxGateway]:
        """Run a gateway that continues the ledger."""
        faults = FAULTS if self.faulty else {}
        return running_sandbox(images="tiny", ledger=self.ledger, latency=LATENCY, faults=faults, faults_per_body=1)

    def faults(self) -> int:
        """Count the requests that the gateway has met with a fault so far."""
        return sum(entry.fault is not None for entry in read_ledger(self.ledger).entries)


@attrs.frozen
class Ended:
    """How a process ended.

    Attributes:
        status: Its exit status, or minus the signal that killed it; None if it hung and was killed here.
        said: The jobs that it said were done.
        complaint: Its stderr.
    """

    status: int | None
    said: AbstractSet[str]
    complaint: str


class Forge:
    """Makes runs that are processes of their own: forks of one that has imported everything; see `child`."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.child"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(
        self, scene: Scene, gateway: SandboxGateway, tracer: Tracer | None = None, *, token: str = "0" * 12
    ) -> Ended:
        """Run the batch to its end or its stop.

        Args:
            scene: Where.
            gateway: Who is asked.
            tracer: Makes the command that traces a process.
            token: What its temporary files are named by.
        """
        arguments = ["run", str(scene.prompts), "--output", str(scene.output), "--base-url", gateway.base_url]
        told, complaint = scene.folder / "told", scene.folder / "complaint"
        order = Order(
            arguments=[*arguments, "--concurrency", str(SLOTS), "--progress", "off", "--disk-patience", "1"],
            key=gateway.api_key,
            token=token,
            told=str(told),
            complaint=str(complaint),
            traced=tracer is not None,
        )
        status = self._carry_out(order, tracer)
        return Ended(status, _said(told.read_text()), complaint.read_text())

    def _carry_out(self, order: Order, tracer: Tracer | None) -> int | None:
        stdin, hung = self._process.stdin, threading.Event()
        assert stdin is not None

        def end() -> None:
            hung.set()
            os.killpg(process, signal.SIGKILL)

        stdin.write(json.dumps(attrs.asdict(order)) + "\n")
        stdin.flush()
        process = self._number()
        alarm = threading.Timer(TIME_LIMIT_S, end)
        alarm.start()
        try:
            with subprocess.Popen(tracer(process)) if tracer else nullcontext():  # noqa: S603 - strace
                status = self._number()
        finally:
            alarm.cancel()
        return None if hung.is_set() else status

    def _number(self) -> int:
        assert self._process.stdout is not None
        return int(self._process.stdout.readline())

    def close(self) -> None:
        """End."""
        self._process.communicate()


def _said(told: str) -> AbstractSet[str]:
    words = [line.split() for line in told.splitlines(keepends=True) if line.endswith("\n")]
    return {word[2] for word in words if word[:1] == ["said"] and word[1] in {"succeeded", "skipped"}}


def resume(scene: Scene, gateway: SandboxGateway) -> list[str]:
    """Run the batch in this process; return how its jobs ended."""

    async def resumed() -> list[str]:
        async with asyncio.timeout(TIME_LIMIT_S):
            done = await run(gateway, open_source(str(scene.prompts)), scene.output, fsync=True)
        return done.statuses

    return asyncio.run(resumed())
