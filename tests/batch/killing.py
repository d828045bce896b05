"""A batch as a process of its own, to be killed: `killed_batch` with its prompts, its gateway and its folder."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from imagen_async.sandbox import SandboxGateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["Scene", "done_of"]

PROGRAM = Path(__file__).with_name("killed_batch.py")


@attrs.frozen
class Scene:
    """Prompts, a gateway that outlives every run, and the folder that they fill."""

    gateway: SandboxGateway
    prompts: Path
    folder: Path

    def run(self, *, kill_after: int | None = None, new: bool = False, delay_s: float = 0.0) -> list[str]:
        """Run, and perhaps kill; return the words that were said in full.

        Args:
            kill_after: How many outcomes are waited for before it is killed; None lets it run to its end.
            new: Whether outcomes of jobs that were done before are not counted.
            delay_s: Seconds to wait after those outcomes; with none of them, from the start of the process.
        """
        command = [sys.executable, str(PROGRAM), str(self.prompts), str(self.folder)]
        command += [self.gateway.base_url, self.gateway.api_key]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - our own script
            assert process.stdout is not None
            said = []
            if kill_after is not None:
                said = list(_until(process.stdout.readline, kill_after, new=new))
                time.sleep(delay_s)
                process.kill()
            said += process.stdout.readlines()
        return [line.strip() for line in said if line.endswith("\n")]


def _until(readline: Callable[[], str], count: int, *, new: bool) -> Iterator[str]:
    while count and (line := readline()):
        yield line
        count -= not (new and line.startswith("skipped"))


def done_of(said: Sequence[str]) -> list[str]:
    """Return the ids of the jobs that were said to be done by this run."""
    return [word.split()[1] for word in said if word.startswith("succeeded")]
