"""From options to an open client: a gateway out there with a key, or the sandbox in this very process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from imagen_async.cli.options import read_key
from imagen_async.client.client import ImagenClient
from imagen_async.exceptions import ConfigurationError, printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imagen_async.catalog import Catalog
    from imagen_async.cli.options import GatewayOptions, SandboxRun

__all__ = ["connected"]


@asynccontextmanager
async def connected(
    gateway: GatewayOptions,
    sandbox: SandboxRun,
    *,
    catalog: Catalog,
    **options: Any,
) -> AsyncIterator[ImagenClient]:
    """Open a client, and the sandbox if that is what it shall talk to.

    Args:
        gateway: Which gateway.
        sandbox: The embedded one.
        catalog: What is known of models.
        **options: Further arguments of `ImagenClient`.

    Raises:
        ConfigurationError: There is no key, or options do not fit, alone or together.
        MissingExtraError: The sandbox needs Pillow.
    """
    if not sandbox.sandbox:
        sandbox.refuse_without_sandbox()
        async with ImagenClient(
            read_key(gateway.api_key_file),
            gateway.base_url,
            catalog=catalog,
            send_response_format=not gateway.no_response_format,
            allow_http=gateway.allow_http,
            **options,
        ) as client:
            yield client
        return
    _refuse_gateway(gateway)
    from imagen_async.sandbox import SandboxGateway

    async with (
        SandboxGateway(models=tuple(catalog), **sandbox.keywords()) as embedded,
        ImagenClient(
            embedded.api_key,
            embedded.base_url,
            catalog=catalog,
            send_response_format=not gateway.no_response_format,
            **options,
        ) as client,
    ):
        yield client


def _refuse_gateway(gateway: GatewayOptions) -> None:
    given = {"--base-url": gateway.base_url, "--api-key-file": gateway.api_key_file}
    if named := [f"{option} {printable(str(value), 80)}" for option, value in given.items() if value is not None]:
        raise ConfigurationError(f"{', '.join(named)}: the sandbox has an address and a key of its own")
