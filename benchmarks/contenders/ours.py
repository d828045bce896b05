"""Ours: ``client.stream``, as the first page of the documentation has it: into a `LocalStore`, or into memory."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from benchmarks.contenders import KEY, MODEL, Run, Task
from benchmarks.stalling import Stalling
from imagen_async import ImagenClient, ImageRequest, LocalStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from imagen_async import Store


@asynccontextmanager
async def opened(task: Task, *, fsync: bool = False) -> AsyncIterator[Run]:
    """Open one client for the whole run."""
    async with ImagenClient(api_key=KEY, base_url=f"{task.url}/v1", max_concurrency=task.concurrency) as client:

        async def run(prompts: list[str], out: Path) -> int:
            requests = (ImageRequest(prompt, model=MODEL, n=task.n) for prompt in prompts)
            images = 0
            async with client.stream(requests, store=_store(task, out, fsync=fsync)) as outcomes:
                async for outcome in outcomes:
                    if outcome.error is not None:
                        raise outcome.error
                    images += len(outcome.images)
                    if task.in_memory:
                        task.kept.extend(image.data or b"" for image in outcome.images)
            return images

        yield run


def _store(task: Task, out: Path, *, fsync: bool) -> Store | None:
    if task.in_memory:
        return None
    store = LocalStore(out, fsync=fsync)
    return Stalling(store, task.stall) if task.stall else store
