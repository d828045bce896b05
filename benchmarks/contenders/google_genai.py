"""google-genai: ``generate_images``, in the vendor's own dialect and at its own path."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from google import genai
from google.genai import types

from benchmarks.contenders import KEY, MODEL, Run, Task, at_once, kept

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


@asynccontextmanager
async def opened(task: Task) -> AsyncIterator[Run]:
    """Open one client for the whole run."""
    # The vendor's newer releases make images with Imagen in this mode only; older ones know no other name for it.
    there = types.HttpOptions(base_url=task.url)
    async with genai.Client(vertexai=True, api_key=KEY, http_options=there).aio as client:

        async def run(prompts: list[str], out: Path) -> int:
            config = types.GenerateImagesConfig(number_of_images=task.n)

            async def one(number: int, prompt: str) -> int:
                answer = await client.models.generate_images(model=MODEL, prompt=prompt, config=config)
                images = answer.generated_images or []
                for index, image in enumerate(images):
                    await kept(image.image.image_bytes, out / f"{number}-{index}.png", task)
                return len(images)

            return await at_once(task.concurrency, prompts, one)

        yield run
