"""A batch in a program that ignores the system's limits, with a loop that records how long it was blocked.

Usage: ``python -m tests.torture.heedless PROMPTS --output DIR --base-url URL --concurrency N --timeout S …``. What the
command line has besides is taken and left aside.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import suppress

from imagen_async import ImagenClient
from imagen_async.batch import Batch, open_source
from imagen_async.cli.exit_codes import Exit, after_error
from imagen_async.exceptions import ImagenError
from imagen_async.receiver.spill import OverflowPolicy
from imagen_async.transport.timeouts import Timeouts

BEAT_S = 0.01


class Heart:
    """Beats in the event loop, and notes the longest pause between two beats."""

    def __init__(self) -> None:
        self.longest_s = 0.0

    async def beat(self) -> None:
        """Beat until cancelled."""
        now = asyncio.get_running_loop().time
        before = now()
        while True:
            await asyncio.sleep(BEAT_S)
            self.longest_s, before = max(self.longest_s, now() - before - BEAT_S), now()


async def main() -> int:
    """Run the batch."""
    given = _given()
    heart = Heart()
    beating = asyncio.create_task(heart.beat())
    timeouts = Timeouts(read=given.timeout, total=given.timeout)
    overflow = OverflowPolicy(patience=2.0)
    try:
        async with (
            ImagenClient(
                base_url=given.base_url, max_concurrency=given.concurrency, timeouts=timeouts, overflow=overflow
            ) as client,
            Batch(client, open_source(given.prompts), output=given.output) as batch,
        ):
            async for _ in batch:
                pass
        status = Exit.SUCCEEDED if batch.summary.ok else Exit.INCOMPLETE
    except ImagenError as error:
        sys.stderr.write(f"{error}\n")
        status = after_error(error, sent=True)
    beating.cancel()
    with suppress(asyncio.CancelledError):
        await beating
    sys.stdout.write(json.dumps({"longest_s": heart.longest_s}) + "\n")
    return status


def _given() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("prompts")
    parser.add_argument("--output")
    parser.add_argument("--base-url")
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--timeout", type=float, default=300.0)
    return parser.parse_known_args()[0]


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
