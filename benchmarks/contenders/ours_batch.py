"""Ours, as a `Batch`: into an output folder, with journal, metadata and durable writes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.contenders import KEY, MODEL, Run, Task
from imagen_async import Batch, ImagenClient, ImageRequest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def opened(task: Task, *, fsync: bool = True) -> AsyncIterator[Run]:
    """Open one client for the whole run; each list of prompts is a batch of its own."""
    async with ImagenClient(api_key=KEY, base_url=f"{task.url}/v1", max_concurrency=task.concurrency) as client:

        async def run(prompts: list[str], out: Path) -> int:
            requests = (ImageRequest(prompt, model=MODEL, n=task.n) for prompt in prompts)
            images = 0
            async with Batch(client, requests, output=out, fsync=fsync) as outcomes:
                async for outcome in outcomes:
                    if outcome.error is not None:
                        raise outcome.error
                    images += len(outcome.images)
            return images

        yield run
