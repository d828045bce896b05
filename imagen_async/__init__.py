"""Text-to-image in bulk: prompts in, verified images out, nothing lost or bought twice.

The public face: `ImagenClient` generates one image or a stream of them, `Batch` does so with a journal that survives
a crash, `ImageRequest` says what to make and `Outcome` what came of it; stores say where images are kept. Every error
is an `ImagenError`.

A name is imported when it is first used, so that importing the package costs next to nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from imagen_async._version import __version__

if TYPE_CHECKING:
    from imagen_async.batch import Batch, Row, open_source
    from imagen_async.catalog import CATALOG, Catalog, Model
    from imagen_async.client.client import ImagenClient
    from imagen_async.events import Event
    from imagen_async.exceptions import (
        Attempt,
        AuthenticationError,
        ConfigurationError,
        ConnectError,
        DisconnectedError,
        FailureClass,
        FilteredError,
        GatewayError,
        ImagenError,
        InvalidInputError,
        InvalidRequestError,
        JournalError,
        JournalLockedError,
        LimitReachedError,
        MissingExtraError,
        ModelNotFoundError,
        OutageError,
        OverloadedError,
        PermissionDeniedError,
        ProtocolError,
        RateLimitError,
        RedirectedError,
        RejectedError,
        StoreError,
        TimeoutExceededError,
        TransportError,
        UsageError,
    )
    from imagen_async.limiter.backoff import RetryPolicy
    from imagen_async.limiter.circuit import RetryQuota
    from imagen_async.limiter.limiter import PaceState
    from imagen_async.limiter.pacer import Pacer
    from imagen_async.outcome import Image, Outcome, Status
    from imagen_async.receiver.caps import Caps
    from imagen_async.receiver.spill import OverflowPolicy
    from imagen_async.request import ImageRequest
    from imagen_async.stores import ImageName, Kept, LocalStore, MemoryStore, Sink, Store
    from imagen_async.transport.timeouts import Timeouts
    from imagen_async.wire.image import Facts

__all__ = [
    "CATALOG",
    "Attempt",
    "AuthenticationError",
    "Batch",
    "Caps",
    "Catalog",
    "ConfigurationError",
    "ConnectError",
    "DisconnectedError",
    "Event",
    "Facts",
    "FailureClass",
    "FilteredError",
    "GatewayError",
    "Image",
    "ImageName",
    "ImageRequest",
    "ImagenClient",
    "ImagenError",
    "InvalidInputError",
    "InvalidRequestError",
    "JournalError",
    "JournalLockedError",
    "Kept",
    "LimitReachedError",
    "LocalStore",
    "MemoryStore",
    "MissingExtraError",
    "Model",
    "ModelNotFoundError",
    "OutageError",
    "Outcome",
    "OverflowPolicy",
    "OverloadedError",
    "PaceState",
    "Pacer",
    "PermissionDeniedError",
    "ProtocolError",
    "RateLimitError",
    "RedirectedError",
    "RejectedError",
    "RetryPolicy",
    "RetryQuota",
    "Row",
    "Sink",
    "Status",
    "Store",
    "StoreError",
    "TimeoutExceededError",
    "Timeouts",
    "TransportError",
    "UsageError",
    "__version__",
    "open_source",
]

_HOMES = {
    "Batch": "batch",
    "Row": "batch",
    "open_source": "batch",
    "CATALOG": "catalog",
    "Catalog": "catalog",
    "Model": "catalog",
    "ImagenClient": "client.client",
    "Event": "events",
    "AuthenticationError": "exceptions",
    "ConfigurationError": "exceptions",
    "ConnectError": "exceptions",
    "DisconnectedError": "exceptions",
    "FilteredError": "exceptions",
    "GatewayError": "exceptions",
    "ImagenError": "exceptions",
    "InvalidInputError": "exceptions",
    "InvalidRequestError": "exceptions",
    "JournalError": "exceptions",
    "JournalLockedError": "exceptions",
    "LimitReachedError": "exceptions",
    "MissingExtraError": "exceptions",
    "ModelNotFoundError": "exceptions",
    "OutageError": "exceptions",
    "OverloadedError": "exceptions",
    "PermissionDeniedError": "exceptions",
    "ProtocolError": "exceptions",
    "RateLimitError": "exceptions",
    "RedirectedError": "exceptions",
    "RejectedError": "exceptions",
    "StoreError": "exceptions",
    "TimeoutExceededError": "exceptions",
    "TransportError": "exceptions",
    "UsageError": "exceptions",
    "Attempt": "exceptions",
    "FailureClass": "exceptions",
    "Image": "outcome",
    "Outcome": "outcome",
    "Status": "outcome",
    "RetryPolicy": "limiter.backoff",
    "RetryQuota": "limiter.circuit",
    "Pacer": "limiter.pacer",
    "Facts": "wire.image",
    "Caps": "receiver.caps",
    "OverflowPolicy": "receiver.spill",
    "ImageRequest": "request",
    "PaceState": "limiter.limiter",
    "ImageName": "stores",
    "Kept": "stores",
    "LocalStore": "stores",
    "MemoryStore": "stores",
    "Sink": "stores",
    "Store": "stores",
    "Timeouts": "transport.timeouts",
}
"""The module of each public name, below this package."""


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
