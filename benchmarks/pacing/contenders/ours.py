"""Ours: ``client.stream``, and the same with a journal; no setting but the number of permits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contenders import KEY, MODEL
from benchmarks.pacing.rows import SLOTS
from imagen_async import Batch, ImagenClient, ImageRequest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.pacing.contenders import Task


async def streamed(task: Task) -> None:
    """Ask with ``client.stream``, images into memory."""
    async with _client(task) as client, client.stream(_requests(task)) as outcomes:
        async for outcome in outcomes:
            task.told(outcome.ok)


async def journalled(task: Task) -> None:
    """Ask with a `Batch`: journal, files and fsync included."""
    async with _client(task) as client, Batch(client, _requests(task), output=task.out) as batch:
        async for outcome in batch:
            task.told(outcome.ok)


def _client(task: Task) -> ImagenClient:
    return ImagenClient(KEY, f"{task.url}/v1", max_concurrency=SLOTS)


def _requests(task: Task) -> Iterator[ImageRequest]:
    return (ImageRequest(prompt, model=MODEL) for prompt in task.prompts)
