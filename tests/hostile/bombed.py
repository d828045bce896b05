"""A separate process that requests compression bombs and prints its peak memory; the first response is valid.

Called with the gateway's URL and a folder. `test_encodings` starts it.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from pathlib import Path

from imagen_async import ImagenClient, ImagenError, LocalStore, RetryPolicy
from tests.clients import KEY

_PEAK = re.compile(r"VmHWM:\s+(\d+) kB")


def peak() -> int:
    """The most memory, in KiB, that this process has had since `forget_peak`."""
    found = _PEAK.search(Path("/proc/self/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1])


def forget_peak() -> None:
    """Begin anew; a child has its parent's peak as well (proc(5), clear_refs)."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


async def bombed(url: str, folder: str) -> None:
    """Request a valid response and then three bombs; print the results and the growth of the peak."""
    store, told = LocalStore(folder, fsync=False), []
    async with ImagenClient(KEY, url, retry=RetryPolicy(on_ambiguous="fail")) as client:
        await client.generate("good", store=store)
        forget_peak()
        before = peak()
        for encoding in ("gzip", "br", "zstd"):
            try:
                await client.generate(encoding, store=store)
            except ImagenError as error:
                told.append(str(error))
    sys.stdout.write(json.dumps({"told": told, "grown": peak() - before}))


if __name__ == "__main__":
    asyncio.run(bombed(*sys.argv[1:]))
