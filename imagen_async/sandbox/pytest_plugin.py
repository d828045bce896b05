"""Fixtures that give a test its own sandbox gateway.

Put ``pytest_plugins = ["imagen_async.sandbox.pytest_plugin"]`` into the top ``conftest.py``. The fixtures need
pytest-asyncio, in either of its modes; tests that are not asynchronous use `running_sandbox` instead.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any, Protocol

import pytest_asyncio

from imagen_async.sandbox.gateway import SandboxGateway
from imagen_async.sandbox.settings import SandboxOptions, keywords_of, method_keywords_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["SandboxFactory", "imagen_sandbox", "imagen_sandbox_factory"]


class SandboxFactory(Protocol):
    """Starts gateways that run until the test ends."""

    @method_keywords_of(SandboxOptions)
    async def __call__(self, **keywords: Any) -> SandboxGateway:
        """Start a gateway.

        Args:
            **keywords: Fields of `SandboxOptions`; images are tiny by default.
        """
        ...


@pytest_asyncio.fixture
async def imagen_sandbox() -> AsyncIterator[SandboxGateway]:
    """A running gateway without limits or faults, with tiny images."""
    async with SandboxGateway(images="tiny") as gateway:
        yield gateway


@pytest_asyncio.fixture
async def imagen_sandbox_factory() -> AsyncIterator[SandboxFactory]:
    """A coroutine function that starts gateways with the test's own options."""
    async with AsyncExitStack() as stack:

        @keywords_of(SandboxOptions)
        async def start(**keywords: Any) -> SandboxGateway:
            return await stack.enter_async_context(SandboxGateway(**{"images": "tiny", **keywords}))

        yield start
