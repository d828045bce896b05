"""A pool of connections that gives none out on which the gateway has said something unasked.

aiohttp keeps an answer that nobody waits for, and takes it for that of the connection's next request: two answers to
one request, or one that comes when its asker has gone, would be somebody else's images. What has been closed by the
gateway, but not noticed yet, shows in the same way.
"""

from __future__ import annotations

import select
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import aiohttp

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp.client_proto import ResponseHandler

__all__ = ["LEAVING", "Connector"]

LEAVING: ContextVar[Callable[[], object] | None] = ContextVar("imagen_leaving", default=None)
"""Called when the request that the current task sends has its connection."""


class Connector(aiohttp.TCPConnector):
    """A connector for one gateway; takes what aiohttp's own takes.

    It tells when a request leaves (`LEAVING`): as soon as it has its connection, aiohttp writes.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._used: WeakKeyDictionary[ResponseHandler, Callable[[], bool]] = WeakKeyDictionary()
        """By connection, what tells whether something can be read from it."""

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
            readable = self._used.get(protocol) if protocol is not None else None
            # On a new one TLS may have said something: that is its own business.
            if protocol is None or readable is None or not _has_spoken(protocol, readable):
                break
            connection.close()
        if protocol is not None and readable is None:
            self._used[protocol] = _listening(protocol)
        if (tell := LEAVING.get()) is not None:
            tell()
        return connection


def _has_spoken(protocol: ResponseHandler, readable: Callable[[], bool]) -> bool:
    """Tell whether bytes have come that belong to no request: read already, or waiting in the system."""
    return protocol.should_close or protocol.transport is None or readable()


def _listening(protocol: ResponseHandler) -> Callable[[], bool]:
    """Return what tells whether the system has bytes of a connection; to be asked only while that is open."""
    socket = protocol.transport.get_extra_info("socket") if protocol.transport is not None else None
    return (lambda: False) if socket is None else _readable(socket.fileno())


def _readable(descriptor: int) -> Callable[[], bool]:
    if not hasattr(select, "poll"):  # on Windows, where select takes descriptors of any number
        return lambda: bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return lambda: bool(poll.poll(0))
