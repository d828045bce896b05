"""openai-python: ``images.generate`` from as many tasks as there are permits; its retries are its rate control."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

# The part that it would import with the first request, when the clock runs.
import openai.resources.images  # type: ignore[import-not-found,unused-ignore]  # a peer: not in every environment

from benchmarks.contenders import KEY, MODEL, at_once
from benchmarks.pacing.rows import SLOTS

if TYPE_CHECKING:
    from benchmarks.pacing.contenders import Task


async def asked(task: Task, *, retries: int) -> None:
    """Ask until every job gave its image or was given up."""
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{task.url}/v1", max_retries=retries) as client:

        async def one(_: int, prompt: str) -> int:
            try:
                answer = await client.images.generate(model=MODEL, prompt=prompt, response_format="b64_json")
            except openai.APIError:
                images = []
            else:
                images = [base64.b64decode(image.b64_json or "") for image in answer.data or []]
            task.told(any(images))
            return len(images)

        await at_once(SLOTS, task.prompts, one)
