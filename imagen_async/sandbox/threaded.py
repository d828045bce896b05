"""A sandbox gateway for code that is not asynchronous: the same gateway, on an event loop in its own thread."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TYPE_CHECKING, Unpack

from imagen_async.sandbox.gateway import SandboxGateway

if TYPE_CHECKING:
    from collections.abc import Iterator

    from imagen_async.sandbox.settings import SandboxKeywords, SandboxOptions

__all__ = ["running_sandbox"]


@contextmanager
def running_sandbox(
    options: SandboxOptions | None = None, **keywords: Unpack[SandboxKeywords]
) -> Iterator[SandboxGateway]:
    """Run a `SandboxGateway` in a thread for as long as the block lasts.

    Its attributes can be read from any thread; its coroutines belong to its own loop.

    Args:
        options: How to behave.
        **keywords: Fields of `SandboxOptions` that override those of `options`.

    Raises:
        ConfigurationError: An option does not fit, or the address or the ledger cannot be had.
        MissingExtraError: Pillow is not installed.

    Example:
        >>> import json, urllib.request
        >>> with running_sandbox(images="tiny") as gateway:
        ...     ask = urllib.request.Request(gateway.base_url + "/models")
        ...     ask.add_header("Authorization", "Bearer " + gateway.api_key)
        ...     with urllib.request.urlopen(ask) as answer:
        ...         json.load(answer)["data"][0]["id"]
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
