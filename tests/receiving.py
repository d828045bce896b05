"""A receiver over a store that notes everything, fed by hand."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from imagen_async.receive import Caps, Receiver
from imagen_async.writers import Writers

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.spying import SpyStore

__all__ = ["receiving"]


@asynccontextmanager
async def receiving(store: SpyStore, *, n: int = 4, **options: Any) -> AsyncIterator[Receiver]:
    """A receiver that is discarded at the end, as every receiver is, and has left nothing open then."""
    writers = Writers(2)
    options = {"job_id": "fox", "indices": range(n), "wish": "png", "caps": Caps(), "sha256": False, **options}
    receiver = Receiver(store, writers, **options)
    try:
        yield receiver
    finally:
        await receiver.discard()
        writers.close()
        assert store.open_sinks == 0
