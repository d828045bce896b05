"""bare-tenacity: bare, inside tenacity's retry loop, as its documentation has it; nothing is ever tried twice."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from benchmarks.contenders import Run, Task, at_once
from benchmarks.contenders.bare import read_and_dropped, session_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Run]:
    """Open one session for the whole run."""
    async with session_for(task) as session:

        async def run(prompts: list[str], out: Path) -> int:
            del out

            async def one(_: int, prompt: str) -> int:
                async for attempt in AsyncRetrying(
                    stop=stop_after_attempt(4),
                    wait=wait_random_exponential(max=30),
                    retry=retry_if_exception_type(aiohttp.ClientError),
                    reraise=True,
                ):
                    with attempt:
                        return await read_and_dropped(session, prompt, task)
                raise AssertionError("tenacity has raised what failed")

            return await at_once(task.concurrency, prompts, one)

        yield run
