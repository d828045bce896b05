"""Text-to-image in bulk: prompts in, verified images out, nothing lost or bought twice.

`ImagenClient` generates one image or a stream of them, `Batch` does so with a journal that survives a crash,
`ImageRequest` is a request and `Outcome` what came of it; stores keep the images. Every error is an `ImagenError`.

A name is imported when it is first used, so that importing the package costs little time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from imagen_async._version import __version__

if TYPE_CHECKING:
    from imagen_async.batch import Batch, Progress, Row, Summary, open_source
    from imagen_async.catalog import CATALOG, Catalog, Model
    from imagen_async.client.client import ImagenClient
    from imagen_async.client.snapshot import ClientSnapshot
    from imagen_async.client.stream import Stream
    from imagen_async.events import Event
    from imagen_async.exceptions import (
        Attempt,
        AuthenticationError,
        ConfigurationError,
        ConnectError,
        DisconnectedError,
        EndpointNotFoundError,
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
    from imagen_async.limiter.permit import Permit, Verdict
    from imagen_async.outcome import Image, Outcome, Status
    from imagen_async.receiver.caps import Caps
    from imagen_async.receiver.spill import OverflowPolicy
    from imagen_async.request import ImageRequest, RequestFields
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
    "ClientSnapshot",
    "ConfigurationError",
    "ConnectError",
    "DisconnectedError",
    "EndpointNotFoundError",
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
    "Permit",
    "Progress",
    "ProtocolError",
    "RateLimitError",
    "RedirectedError",
    "RejectedError",
    "RequestFields",
    "RetryPolicy",
    "RetryQuota",
    "Row",
    "Sink",
    "Status",
    "Store",
    "StoreError",
    "Stream",
    "Summary",
    "TimeoutExceededError",
    "Timeouts",
    "TransportError",
    "UsageError",
    "Verdict",
    "__version__",
    "open_source",
]

_EXPORTS = {
    "batch": ("Batch", "Progress", "Row", "Summary", "open_source"),
    "catalog": ("CATALOG", "Catalog", "Model"),
    "client.client": ("ImagenClient",),
    "client.snapshot": ("ClientSnapshot",),
    "client.stream": ("Stream",),
    "events": ("Event",),
    "exceptions": (
        "Attempt",
        "AuthenticationError",
        "ConfigurationError",
        "ConnectError",
        "DisconnectedError",
        "EndpointNotFoundError",
        "FailureClass",
        "FilteredError",
        "GatewayError",
        "ImagenError",
        "InvalidInputError",
        "InvalidRequestError",
        "JournalError",
        "JournalLockedError",
        "LimitReachedError",
        "MissingExtraError",
        "ModelNotFoundError",
        "OutageError",
        "OverloadedError",
        "PermissionDeniedError",
        "ProtocolError",
        "RateLimitError",
        "RedirectedError",
        "RejectedError",
        "StoreError",
        "TimeoutExceededError",
        "TransportError",
        "UsageError",
    ),
    "limiter.backoff": ("RetryPolicy",),
    "limiter.circuit": ("RetryQuota",),
    "limiter.limiter": ("PaceState",),
    "limiter.pacer": ("Pacer",),
    "limiter.permit": ("Permit", "Verdict"),
    "outcome": ("Image", "Outcome", "Status"),
    "receiver.caps": ("Caps",),
    "receiver.spill": ("OverflowPolicy",),
    "request": ("ImageRequest", "RequestFields"),
    "stores": ("ImageName", "Kept", "LocalStore", "MemoryStore", "Sink", "Store"),
    "transport.timeouts": ("Timeouts",),
    "wire.image": ("Facts",),
}
"""The public names of each module. A test compares the imports and `__all__` above, for type checkers, with this."""

_HOMES = {name: home for home, names in _EXPORTS.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
