"""A receiver over a store that records everything, and bodies that arrive as a test says."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

import attrs

from imagen_async._secrets import Mask
from imagen_async.exceptions import ImagenError
from imagen_async.receiver.caps import Caps
from imagen_async.receiver.receiver import Receiver, ReceiverContext
from imagen_async.receiver.spill import OverflowPolicy, Spill
from imagen_async.stores import Store
from tests.clock import FakeClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable

    from imagen_async.exceptions import StoreError

__all__ = ["ScriptedBody", "receive", "receiver_context", "receiving", "spill_of"]


def spill_of(policy: OverflowPolicy | None = None, *, clock: FakeClock | None = None) -> Spill:
    """Memory for what a store does not accept, on a clock of its own."""
    clock = clock or FakeClock()
    return Spill(policy, clock=clock.clock, sleep=clock.sleep)


class Spy(Store, Protocol):
    """A store that knows how many of its sinks are open."""

    @property
    def open_sinks(self) -> int:
        """How many."""


@contextmanager
def receiver_context(
    *,
    caps: Caps | None = None,
    policy: OverflowPolicy | None = None,
    clock: FakeClock | None = None,
    max_reading: int = 2,
    writers: int | None = 2,
) -> Iterator[ReceiverContext]:
    """What receivers share; at the end nothing is left in memory."""
    spill = spill_of(policy, clock=clock)
    context = ReceiverContext(caps=caps or Caps(), spill=spill, max_reading=max_reading, writers=writers)
    try:
        yield context
    finally:
        context.threads.close()
        assert (context.spill.reserved, context.gate.inside, context.gate.backlog.size) == (0, 0, 0)


@attrs.define(eq=False)
class ScriptedBody:
    """A body that arrives in `chunks`; between two chunks an iterator of a test's own may look around, or wait.

    Attributes:
        chunks: The chunks; what is awaitable among them is awaited.
        breaks: Raised after the last chunk, or None for a body that ends there.
        rests: Whether it hands over after each chunk, as a connection does between two reads.
    """

    chunks: Iterator[Any]
    breaks: ImagenError | None = None
    mask: Mask = attrs.field(factory=Mask)
    packed: str | None = None
    here: bool = False

    def hold(self) -> None:
        """Nothing arrives before it is asked for."""

    async def pump(self, take: Callable[[bytes | bytearray, int], bool], /) -> bool:
        """Pass chunks on until enough is gathered."""
        for chunk in self.chunks:
            if inspect.isawaitable(chunk):
                await chunk
            elif take(chunk, len(chunk)):
                return True
        if self.breaks is not None:
            raise self.breaks
        return False


@asynccontextmanager
async def receiving(
    store: Spy, *, n: int = 4, caps: Caps | None = None, policy: OverflowPolicy | None = None, **options: Any
) -> AsyncIterator[Receiver]:
    """A receiver that has left nothing open or in memory at the end."""
    failures: list[StoreError] = []
    defaults = {"job_id": "fox", "indices": range(n), "output_format": "png", "sha256": False}
    defaults |= {"on_store_failure": failures.append}
    with receiver_context(caps=caps, policy=policy) as context:
        yield Receiver(context, store, **{**defaults, **options})
    assert store.open_sinks == 0


async def receive(store: Spy, chunks: Iterable[Any], *, breaks: ImagenError | None = None, **options: Any) -> Receiver:
    """Receive a body of `chunks` that ends, or breaks with an error."""
    async with receiving(store, **options) as receiver:
        await receiver.receive(ScriptedBody(iter(chunks), breaks))
    return receiver
