"""A receiver over a store that notes everything, fed by hand."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from imagen_async.receiver.receiver import Caps, Receiver
from imagen_async.receiver.spill import OverflowPolicy, Spill
from imagen_async.receiver.threads import WriterThreads
from tests.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imagen_async.exceptions import StoreError
    from tests.spying import SpyStore

__all__ = ["overflow_of", "receiving"]


def overflow_of(policy: OverflowPolicy | None = None, *, clock: FakeClock | None = None) -> Spill:
    """Room for what a store does not take, on a clock of its own."""
    clock = clock or FakeClock()
    return Spill(policy, clock=clock.clock, sleep=clock.sleep)


@asynccontextmanager
async def receiving(store: SpyStore, *, n: int = 4, **options: Any) -> AsyncIterator[Receiver]:
    """A receiver that is discarded at the end, as every receiver is, and has left nothing open or in memory then."""
    writers, overflow = WriterThreads(2), overflow_of()
    troubles: list[StoreError] = []
    defaults = {"job_id": "fox", "indices": range(n), "wish": "png", "caps": Caps(), "sha256": False}
    defaults |= {"overflow": overflow, "on_trouble": troubles.append}
    receiver = Receiver(store, writers, **{**defaults, **options})
    try:
        yield receiver
    finally:
        await receiver.discard()
        writers.close()
        assert store.open_sinks == 0
        assert overflow.held == 0
