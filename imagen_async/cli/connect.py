"""Opens a client for the command line: for a gateway and its key, or for the sandbox in this process."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from imagen_async.cli.options import read_key
from imagen_async.client.client import ImagenClient
from imagen_async.exceptions import ConfigurationError, printable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imagen_async.catalog import Catalog
    from imagen_async.cli.options import GatewayOptions

__all__ = ["connected"]


@asynccontextmanager
async def connected(
    gateway: GatewayOptions,
    sandbox: dict[str, Any] | None,
    *,
    catalog: Catalog,
    **options: Any,
) -> AsyncIterator[ImagenClient]:
    """Open a client, and the sandbox if it is asked for.

    Args:
        gateway: The gateway's options.
        sandbox: Keywords of the `SandboxGateway` to start, or None.
        catalog: The known models.
        **options: Further arguments of `ImagenClient`.

    Raises:
        ConfigurationError: There is no key, or an option is invalid, alone or together with others.
        MissingExtraError: The sandbox needs Pillow.
    """
    if sandbox is None:
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
        SandboxGateway(models=tuple(catalog), **sandbox) as embedded,
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
        raise ConfigurationError(
            f"{', '.join(named)}: the sandbox has its own address and key; leave that out, or --sandbox"
        )
