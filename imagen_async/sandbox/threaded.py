"""Runs a sandbox gateway for code that is not asynchronous, on an event loop in its own thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from imagen_async.sandbox.gateway import SandboxGateway
from imagen_async.sandbox.settings import SandboxArguments, keywords_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagen_async.sandbox.settings import SandboxOptions

__all__ = ["running_sandbox"]


@contextmanager
@keywords_of(SandboxArguments)
def running_sandbox(options: SandboxOptions | None = None, **keywords: Any) -> Iterator[SandboxGateway]:
    """Run a `SandboxGateway` in a thread until the block ends.

    Its attributes can be read from any thread; its coroutines belong to its own loop.

    Args:
        options: The options; by default those of `SandboxOptions()`.
        **keywords: Fields of `SandboxOptions` that override `options`.

    Raises:
        ConfigurationError: An option is invalid, or the address or the ledger cannot be opened.
        MissingExtraError: Pillow is not installed.

    Example:
        >>> import json, urllib.request
        >>> with running_sandbox(images="tiny") as gateway:
        ...     ask = urllib.request.Request(gateway.base_url + "/models")
        ...     ask.add_header("Authorization", "Bearer " + gateway.api_key)
        ...     with urllib.request.urlopen(ask) as response:
        ...         json.load(response)["data"][0]["id"]
        'imagen-3.0-generate-001'
    """
    gateway = SandboxGateway(options, **keywords)
    up: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
    thread = threading.Thread(target=_serve, args=(gateway, up), name="sandbox-gateway", daemon=True)
    thread.start()
    try:
        loop, down = up.result()
    except BaseException:
        thread.join()
        raise
    try:
        yield gateway
    finally:
        loop.call_soon_threadsafe(down.set)
        thread.join()


def _serve(gateway: SandboxGateway, up: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    async def serve() -> None:
        down = asyncio.Event()
        async with gateway:
            up.set_result((asyncio.get_running_loop(), down))
            await down.wait()

    try:
        asyncio.run(serve())
    except BaseException as error:
        if up.done():
            raise
        up.set_exception(error)
