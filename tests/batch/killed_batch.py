"""A batch to be killed; see `test_crash`.

Usage: ``python killed_batch.py PROMPTS FOLDER URL KEY``. It says a word for each outcome that it was given, so that its
parent knows what was acknowledged.
"""

from __future__ import annotations

import asyncio
import os
import sys

from imagen_async import ImagenClient
from imagen_async.batch import Batch, open_source
from imagen_async.limiter.backoff import RetryPolicy


async def main(prompts: str, folder: str, url: str, key: str) -> None:
    retry = RetryPolicy(initial=0.001, longest=0.01, max_attempts=1000, on_ambiguous="retry")
    async with (
        ImagenClient(key, url, max_concurrency=8, retry=retry) as client,
        Batch(client, open_source(prompts), output=folder, fsync=False) as batch,
    ):
        async for outcome in batch:
            os.write(1, f"{outcome.status.value} {outcome.request.id}\n".encode())
    os.write(1, b"end\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
