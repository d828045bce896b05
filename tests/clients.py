"""Clients for tests, and counters that show what they leave behind."""

from __future__ import annotations

import asyncio
import gc
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import (
    AuthenticationError,
    ImagenClient,
    ModelNotFoundError,
    Outcome,
    PermissionDeniedError,
)
from imagen_async.sandbox import read_stamp

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagen_async.sandbox import SandboxGateway
    from tests.clock import FakeClock

__all__ = [
    "FATAL",
    "KEY",
    "POST",
    "URL",
    "client_of",
    "files_under",
    "linux",
    "open_files",
    "other_tasks",
    "outcomes_of",
    "prompt_in",
]

KEY = "sk-" + "k9" * 24
URL = "https://gateway.example/v1"
POST = URL + "/images/generations"
FATAL = (AuthenticationError, PermissionDeniedError, ModelNotFoundError)


def client_of(
    gateway: SandboxGateway, clock: FakeClock, *, draw: Callable[[], float] = lambda: 0.5, **options: Any
) -> ImagenClient:
    """Return a client of a sandbox that uses a fake clock."""
    return ImagenClient(gateway.api_key, gateway.base_url, _runtime=clock.runtime(draw), **options)


def other_tasks() -> set[str]:
    """Return the other tasks of this event loop, without those of the sandbox and of pytest."""
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return {
        repr(task.get_coro()) for task in tasks if "imagen_async/sandbox" not in repr(task) and "web_" not in repr(task)
    }


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def prompt_in(file: Path) -> str | None:
    return read_stamp(file.read_bytes()).get("prompt")


def files_under(folder: Path) -> list[str]:
    return [path.name for path in folder.rglob("*") if path.is_file()]


linux = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files as Linux shows them")


async def outcomes_of(client: ImagenClient, requests: Any, **options: Any) -> list[Outcome]:
    async with client.stream(requests, **options) as outcomes:
        return [outcome async for outcome in outcomes]
