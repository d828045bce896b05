"""The contenders: the same task, each written as its own documentation has it.

A contender is a module with one async context manager ``opened(task)`` that gives a `Run`, and a ``loop_factory`` if it
wants an event loop of its own. Peers bring neither a
fan-out nor a writer of their own and share `at_once` and `kept`, so that none loses by a clumsy loop of ours. The
module's import is its whole set-up: one whose package is missing fails there and nowhere else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

import attrs

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["EARLIER", "KEY", "MODEL", "NAMES", "Contender", "Run", "Task", "at_once", "kept", "load", "wait_for_disk"]

NAMES = (
    "ours",
    "ours-core",
    "ours-uvloop",
    "openai-python",
    "google-genai",
    "litellm",
    "aiohttp-json",
    "bare",
    "floor",
    "bare-tenacity",
    "ours-files",
    "ours-files-fsync",
    "ours-batch",
    "ours-batch-no-fsync",
)
EARLIER = "@earlier"
"""Ends the name of a contender of ours that runs on another checkout of the package."""
MODEL = "imagen-3.0-generate-001"
KEY = "sk-" + 48 * "0"
"""Of a key's shape, for a server that does not look."""


@attrs.frozen(kw_only=True)
class Task:
    """What every contender is asked to do alike.

    Attributes:
        url: The canned gateway, without a path.
        concurrency: Requests in flight.
        n: Images a request.
        threads: Whether peers write their files in threads (faster) or in the loop (needs less memory).
        in_memory: Whether images stay in memory, in `kept`, of those contenders that leave one the choice.
        stall: Seconds for which the disk takes nothing; after as many more it stalls again.
        kept: The images.
    """

    url: str
    concurrency: int
    n: int = 1
    threads: bool = True
    in_memory: bool = False
    stall: float = 0.0
    kept: list[bytes] = attrs.field(factory=list)


class Run(Protocol):
    """Asks for the images of every prompt and writes each to a file of its own under `out`."""

    async def __call__(self, prompts: list[str], out: Path) -> int:
        """Return the number of images received."""
        ...


@attrs.frozen
class Contender:
    """What a contender's module brings.

    Attributes:
        opened: Gives a `Run` that is ready.
        loop_factory: Makes the event loop it runs in; None for asyncio's own.
    """

    opened: Callable[[Task], AbstractAsyncContextManager[Run]]
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None


def load(name: str) -> Contender:
    """Import a contender.

    Raises:
        ImportError: If what it needs is not installed.
    """
    module = import_module(f"{__name__}.{name.replace('-', '_')}")
    return Contender(module.opened, getattr(module, "loop_factory", None))


async def at_once(concurrency: int, prompts: Iterable[str], do: Callable[[int, str], Awaitable[int]]) -> int:
    """Await ``do(number, prompt)`` for each prompt, `concurrency` at a time; return the sum of the results."""
    numbered = enumerate(prompts)

    async def work() -> int:
        return sum([await do(number, prompt) for number, prompt in numbered])

    return sum(await asyncio.gather(*(work() for _ in range(concurrency))))


async def kept(data: bytes, path: Path, task: Task) -> None:
    """Keep a peer's image: in a file, or in memory."""
    if task.in_memory:
        task.kept.append(data)
    elif task.threads:
        await asyncio.to_thread(_write, data, path, task.stall)
    else:
        _write(data, path, task.stall)  # as the peers' own examples write it


def _write(data: bytes, path: Path, stall: float) -> None:
    wait_for_disk(stall)
    path.write_bytes(data)


def wait_for_disk(stall: float) -> None:
    """Wait as one who writes to a disk that stalls for `stall` seconds and works for as many, for all who write."""
    if stall and (over := time.monotonic() % (2 * stall)) < stall:
        time.sleep(stall - over)
