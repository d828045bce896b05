"""A pool of connections that gives none out on which the gateway has said something unasked.

aiohttp keeps an answer that nobody waits for, and takes it for that of the connection's next request: two answers to
one request, or one that comes when its asker has gone, would be somebody else's images. What has been closed by the
gateway, but not noticed yet, shows in the same way.
"""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler

__all__ = ["Connector"]

_HEAD = 2**12
"""Bytes of a read while no body is being taken."""


class Connector(aiohttp.TCPConnector):
    """A connector for one gateway; takes what aiohttp's own takes."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> aiohttp.connector.Connection:
        """Give a connection that is new, or used before and silent since."""
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            # On a new one TLS may have said something: that is its own business.
            if protocol is None or protocol not in self._used or not _has_spoken(protocol):
                break
            connection.close()
        if protocol is not None:
            self._used.add(protocol)
            _read_little(protocol.transport)
        return connection


def _has_spoken(protocol: ResponseHandler) -> bool:
    """Tell whether bytes have come that belong to no request: read already, or waiting in the system."""
    if protocol.should_close or protocol.transport is None:
        return True
    socket = protocol.transport.get_extra_info("socket")
    return socket is not None and _readable(socket.fileno())


def _read_little(transport: Any) -> None:
    """Let a read bring an answer's headers and not much of its body, which may have to wait."""
    if isinstance(getattr(transport, "max_size", None), int):
        transport.max_size = _HEAD


def _readable(descriptor: int) -> bool:
    if not hasattr(select, "poll"):  # on Windows, where select takes descriptors of any number
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))
