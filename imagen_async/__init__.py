"""Text-to-image in bulk: prompts in, verified images out, nothing lost or bought twice.

The public face: `ImagenClient` generates one image or a stream of them, `Batch` does so with a journal that survives
a crash, `ImageRequest` says what to make and `Outcome` what came of it; stores say where images are kept. Every error
is an `ImagenError`.
"""

from imagen_async._version import __version__
from imagen_async.batch import Batch, Row, open_source
from imagen_async.catalog import CATALOG, Catalog, Model
from imagen_async.client import ImagenClient
from imagen_async.exceptions import (
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    DisconnectedError,
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
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RejectedError,
    StoreError,
    TimeoutExceededError,
    TransportError,
    UsageError,
)
from imagen_async.failure import Attempt, FailureClass
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.pacing.backoff import RetryPolicy
from imagen_async.receive import Caps
from imagen_async.request import ImageRequest
from imagen_async.stores import ImageName, Kept, LocalStore, MemoryStore, Sink, Store
from imagen_async.transport import Timeouts

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
    "Outcome",
    "OverloadedError",
    "PermissionDeniedError",
    "ProtocolError",
    "RateLimitError",
    "RejectedError",
    "RetryPolicy",
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
