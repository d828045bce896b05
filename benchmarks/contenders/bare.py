"""bare: reads the body and drops it. It writes nothing: its row is the ceiling of server and socket, not a rival."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.contenders import KEY, MODEL, Run, Task, at_once

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Run]:
    """Open one session for the whole run."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=task.concurrency), headers={"Authorization": f"Bearer {KEY}"}
    ) as session:

        async def run(prompts: list[str], out: Path) -> int:
            del out

            async def one(_: int, prompt: str) -> int:
                body = {"model": MODEL, "prompt": prompt, "n": task.n, "response_format": "b64_json"}
                async with session.post(f"{task.url}/v1/images/generations", json=body) as response:
                    response.raise_for_status()
                    async for _chunk in response.content.iter_any():
                        pass
                return task.n

            return await at_once(task.concurrency, prompts, one)

        yield run
