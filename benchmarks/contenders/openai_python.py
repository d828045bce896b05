"""openai-python: ``images.generate``, decoded as its image guide does."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import openai  # type: ignore[import-not-found,unused-ignore]  # a peer: not in every environment

from benchmarks.contenders import KEY, MODEL, Run, Task, at_once, kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Run]:
    """Open one client for the whole run."""
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{task.url}/v1") as client:

        async def run(prompts: list[str], out: Path) -> int:
            async def one(number: int, prompt: str) -> int:
                answer = await client.images.generate(model=MODEL, prompt=prompt, n=task.n, response_format="b64_json")
                images = answer.data or []
                for index, image in enumerate(images):
                    data = base64.b64decode(image.b64_json or "")
                    await kept(data, out / f"{number}-{index}.png", task)
                return len(images)

            return await at_once(task.concurrency, prompts, one)

        yield run
