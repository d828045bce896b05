"""bare: reads the body and drops it. It writes nothing: its row is the ceiling of server and socket, not a rival."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.contenders import KEY, MODEL, Run, Task, at_once

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

__all__ = ["opened", "read_and_dropped", "session_for"]


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Run]:
    """Open one session for the whole run."""
    async with session_for(task) as session:

        async def run(prompts: list[str], out: Path) -> int:
            del out

            async def one(_: int, prompt: str) -> int:
                return await read_and_dropped(session, prompt, task)

            return await at_once(task.concurrency, prompts, one)

        yield run


def session_for(task: Task) -> aiohttp.ClientSession:
    """Make a session whose connector does not cap the run, as aiohttp's own limit of 100 connections would."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=task.concurrency), headers={"Authorization": f"Bearer {KEY}"}
    )


async def read_and_dropped(session: aiohttp.ClientSession, prompt: str, task: Task) -> int:
    """Request the images of a prompt, and return their number without reading them."""
    body = {"model": MODEL, "prompt": prompt, "n": task.n, "response_format": "b64_json"}
    async with session.post(f"{task.url}/v1/images/generations", json=body) as response:
        response.raise_for_status()
        async for _chunk in response.content.iter_any():
            pass
    return task.n
