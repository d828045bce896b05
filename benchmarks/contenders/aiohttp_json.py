"""aiohttp-json: what one writes without a library: ``await response.json()``, ``b64decode``, a file."""

from __future__ import annotations

import base64
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import aiohttp

from benchmarks.contenders import KEY, MODEL, Run, Task, at_once, kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Run]:
    """Open one session for the whole run; aiohttp's own limit of 100 connections would cap it."""
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=task.concurrency), headers={"Authorization": f"Bearer {KEY}"}
    ) as session:

        async def run(prompts: list[str], out: Path) -> int:
            async def one(number: int, prompt: str) -> int:
                body = {"model": MODEL, "prompt": prompt, "n": task.n, "response_format": "b64_json"}
                async with session.post(f"{task.url}/v1/images/generations", json=body) as response:
                    response.raise_for_status()
                    answer = await response.json()
                for index, item in enumerate(answer["data"]):
                    data = base64.b64decode(item["b64_json"])
                    await kept(data, out / f"{number}-{index}.png", task)
                return len(answer["data"])

            return await at_once(task.concurrency, prompts, one)

        yield run
