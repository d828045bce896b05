"""Fixtures that give a test its own sandbox gateway.

Put ``pytest_plugins = ["imagen_async.sandbox.pytest_plugin"]`` into the top ``conftest.py``. The fixtures are
pytest-asyncio's, in either of its modes; a test that is not asynchronous uses `running_sandbox` instead.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Protocol, Unpack

import pytest_asyncio

from imagen_async.sandbox.gateway import SandboxGateway

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imagen_async.sandbox.settings import SandboxKeywords

__all__ = ["SandboxFactory", "imagen_sandbox", "imagen_sandbox_factory"]


class SandboxFactory(Protocol):
    """Starts gateways that live as long as the test."""

    async def __call__(self, **keywords: Unpack[SandboxKeywords]) -> SandboxGateway:
        """Start one; keywords are fields of `SandboxOptions`, and images are tiny unless told otherwise."""
        ...


@pytest_asyncio.fixture
async def imagen_sandbox() -> AsyncIterator[SandboxGateway]:
    """Give a running gateway without limits or faults, with tiny images."""
    async with SandboxGateway(images="tiny") as gateway:
        yield gateway


@pytest_asyncio.fixture
async def imagen_sandbox_factory() -> AsyncIterator[SandboxFactory]:
    """Give a coroutine function that starts a gateway with options of its own."""
    async with AsyncExitStack() as stack:

        async def start(**keywords: Unpack[SandboxKeywords]) -> SandboxGateway:
            keywords.setdefault("images", "tiny")
            return await stack.enter_async_context(SandboxGateway(**keywords))

        yield start
