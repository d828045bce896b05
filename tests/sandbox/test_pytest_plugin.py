"""The fixtures, used as a user's test suite uses them."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from tests.sandbox.asking import ask

if TYPE_CHECKING:
    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory

pytest_plugins = ["imagen_async.sandbox.pytest_plugin"]


async def test_the_ready_gateway_returns_tiny_images(imagen_sandbox: SandboxGateway) -> None:
    reply = await ask(imagen_sandbox)
    assert reply.status == 200
    assert len(reply.images[0]) < 2000


async def test_each_test_has_its_own_gateway(imagen_sandbox: SandboxGateway) -> None:
    assert imagen_sandbox.requests == 0


async def test_the_factory_starts_gateways_with_options(imagen_sandbox_factory: SandboxFactory) -> None:
    failing = await imagen_sandbox_factory(faults={"500": 1.0})
    working = await imagen_sandbox_factory()
    assert (await ask(failing)).status == 500
    assert len((await ask(working)).images[0]) < 2000
    assert failing.base_url != working.base_url


def test_the_sandbox_itself_imports_neither_pytest_nor_pillow() -> None:
    script = "import sys, imagen_async.sandbox; sys.exit(bool({'pytest', 'pytest_asyncio', 'PIL'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0  # noqa: S603 - our own interpreter
