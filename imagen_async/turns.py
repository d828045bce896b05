"""Turns: a few bodies are read at a time, each quickly, rather than all of them a little.

A body that arrives as fast as the machine can take it goes through while its bytes are still in the processor's
cache, and only a few bodies take up memory. A body that arrives slowly must not keep others from being read, so it
loses its turn and goes on without one, in smaller spans. Nothing here knows what a body is.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Turn", "Turns"]

_PATIENCE = 0.05
"""Seconds between two looks at whether a body is fast enough to keep its turn."""

_FAST = 20e6
"""Bytes a second; a loop that is busy takes several times as many from each of a few bodies."""

_SPAN_IN_TURN = 2 * 2**20
"""Characters gathered for one hop to a thread: most images whole. Every hop costs several switches of threads."""

_SPAN_OUT_OF_TURN = 2**18


class Turns:
    """Lets a few bodies be read at once.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._free = asyncio.Semaphore(count)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        """Wait for a turn, and have it until the body has been read or proves slow."""
        await self._free.acquire()
        turn = Turn(self._free)
        try:
            yield turn
        finally:
            turn.end()


class Turn:
    """One body's turn; `moved` and `wait` alternate.

    One timer looks in now and then, so that a chunk costs next to nothing.
    """

    def __init__(self, free: asyncio.Semaphore) -> None:
        self._free = free
        self._held = True
        self._bytes = 0
        self._waiting = True
        self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._look)

    @property
    def span(self) -> int:
        """Characters that may be gathered before they are handed on."""
        return _SPAN_IN_TURN if self._held else _SPAN_OUT_OF_TURN

    def wait(self) -> None:
        """The next bytes are being waited for."""
        self._waiting = True

    def moved(self, size: int) -> None:
        """So many bytes have come, and are being worked on."""
        self._waiting = False
        self._bytes += size

    def end(self) -> None:
        """Leave the turn to another body; may be called again."""
        if self._held:
            self._held = False
            self._timer.cancel()
            self._free.release()

    def _look(self) -> None:
        # What keeps a body that is not waiting is our own disk: its turn is what holds the others back, rightly.
        if self._waiting and self._bytes < _FAST * _PATIENCE:
            self.end()
        else:
            self._bytes = 0
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._look)
