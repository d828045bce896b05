"""litellm: ``aimage_generation`` for an OpenAI-shaped gateway, decoded like the responses of openai-python."""

from __future__ import annotations

import base64
import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # or its import asks the network for a list of prices

import litellm  # type: ignore[import-not-found,unused-ignore] # has an environment of its own

from benchmarks.contenders import KEY, MODEL, Run, Task, at_once, kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Run]:
    """Open nothing: litellm keeps its clients to itself."""

    async def run(prompts: list[str], out: Path) -> int:
        async def one(number: int, prompt: str) -> int:
            answer = await litellm.aimage_generation(
                model=f"openai/{MODEL}",
                prompt=prompt,
                n=task.n,
                # Under its own name, litellm refuses the field for models that it does not know.
                extra_body={"response_format": "b64_json"},
                api_key=KEY,
                api_base=f"{task.url}/v1",
            )
            images = answer.data or []
            for index, image in enumerate(images):
                await kept(base64.b64decode(image.b64_json or ""), out / f"{number}-{index}.png", task)
            return len(images)

        return await at_once(task.concurrency, prompts, one)

    yield run
