"""The sandbox of a soak, in a process of its own, so that its memory is not measured with the client's.

One line of JSON on standard input configures it. It prints where it listens, and ends when its standard input does, so
that it does not outlive its parent. Its last line is its ledger.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, cast

import attrs

from imagen_async.sandbox import SandboxGateway

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Gateway", "gateway"]


@attrs.define
class Gateway:
    """A running sandbox.

    Attributes:
        base_url: Where it listens.
        api_key: What it lets in.
    """

    base_url: str
    api_key: str
    _child: subprocess.Popen[str]

    def counts(self) -> dict[str, Any]:
        """End it, and read what it billed."""
        cast("IO[str]", self._child.stdin).close()
        return cast("dict[str, Any]", json.loads(cast("IO[str]", self._child.stdout).readline()))


@contextmanager
def gateway(options: Mapping[str, Any]) -> Iterator[Gateway]:
    """Run a sandbox for as long as the block lasts.

    Args:
        options: Fields of `SandboxOptions` that JSON can hold.
    """
    command = [sys.executable, "-m", "tests.torture.soak_gateway"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:  # noqa: S603 - ours
        try:
            assert child.stdin is not None
            assert child.stdout is not None
            child.stdin.write(json.dumps(options) + "\n")
            child.stdin.flush()
            yield Gateway(**json.loads(child.stdout.readline()), child=child)
        finally:
            child.kill()


async def _serve(options: dict[str, Any]) -> None:
    async with SandboxGateway(**options) as sandbox:
        _say({"base_url": sandbox.base_url, "api_key": sandbox.api_key})
        await asyncio.to_thread(sys.stdin.read)
    ledger = sandbox.ledger
    _say({"requests": ledger.requests, "billed": ledger.billed_images, "faults": +ledger.faults})


def _say(value: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(json.loads(sys.stdin.readline())))
