"""Gate: a few bodies are read at a time, each quickly, rather than all of them a little.

A body that arrives as fast as the machine can take it goes through while its bytes are still in the processor's
cache, and only a few bodies take up memory. A body that arrives slowly must not keep others from being read, so it
loses its turn and goes on without one, in smaller spans. And a body that is all here keeps its turn until there is room
among those that wait to be kept: a disk that stalls must not fill the memory. Nothing here knows what a body is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["Backlog", "Gate", "Turn"]

_PATIENCE = 0.05
"""Seconds between two looks at whether a body is fast enough to keep its turn."""

_FAST = 20e6
"""Bytes a second; a loop that is busy takes several times as many from each of a few bodies."""

_SPAN_IN_TURN = 2 * 2**20
"""Bytes of an image gathered for one hop to a thread: most images whole. A hop costs several switches of threads."""

_SPAN_OUT_OF_TURN = 2**18

_BACKLOG = 16 * 2**20
"""Bytes that may wait to be kept, so that whoever keeps them has always something to do."""


class Gate:
    """Lets a few bodies be read at once.

    Args:
        count: How many.
        keepers: Says how many of those that have been read are kept at once.
    """

    def __init__(self, count: int, *, keepers: Callable[[], int] = lambda: 1) -> None:
        self.free = asyncio.Semaphore(count)
        self.backlog = Backlog(lambda: max(_BACKLOG, 2 * keepers() * _SPAN_IN_TURN))
        self._held: set[Turn] = set()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def taken(self) -> bool:
        """Whether the next turn has to be waited for."""
        return self.free.locked()

    def turn(self) -> Turn:
        """Wait for a turn with ``async with``, and have it until the body has been read or proves slow."""
        return Turn(self)

    def begin(self, turn: Turn) -> None:
        """Have an eye on `turn`: one timer looks in on all of them, so that a chunk costs next to nothing."""
        self._held.add(turn)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._look)

    def end(self, turn: Turn) -> None:
        """Give the turn to another body."""
        self._held.discard(turn)
        if not self._held and self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self.free.release()

    def _look(self) -> None:
        self._timer = None
        for turn in tuple(self._held):
            turn.look()
        if self._held:
            self._timer = asyncio.get_running_loop().call_later(_PATIENCE, self._look)


class Backlog:
    """Bytes that wait to be kept: as many as there is room for; who brings more of them waits, each in its order.

    Args:
        most: Says how many there is room for. More than that alone are let in, when there are no others.
    """

    def __init__(self, most: Callable[[], int]) -> None:
        self._most = most
        self.held = 0
        self._waiting: deque[tuple[asyncio.Future[None], int]] = deque()

    async def take(self, size: int) -> None:
        """Wait until there is room for so many bytes, and take it."""
        if not self._waiting and self._fits(size):
            self.held += size
            return
        let_in: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((let_in, size))
        try:
            await let_in
        except asyncio.CancelledError:
            if let_in.done() and not let_in.cancelled():
                self.give_back(size)
            else:
                self._let_in()  # whoever was behind it may fit
            raise

    def give_back(self, size: int) -> None:
        """Give room back, to whoever waits for it."""
        self.held -= size
        self._let_in()

    def _fits(self, size: int) -> bool:
        return not self.held or self.held + size <= self._most()

    def _let_in(self) -> None:
        while self._waiting and (self._waiting[0][0].done() or self._fits(self._waiting[0][1])):
            let_in, size = self._waiting.popleft()
            if not let_in.done():
                self.held += size
                let_in.set_result(None)


class Turn:
    """One body's turn, as ``async with``; `rest` and `wait` alternate."""

    def __init__(self, turns: Gate) -> None:
        self._turns = turns
        self._held = False
        self._looks = 0
        self._bytes = 0
        self._waiting = True
        self._to_be_kept = 0

    async def __aenter__(self) -> Self:
        await self._turns.free.acquire()
        self._held = True
        self._turns.begin(self)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def wait(self) -> None:
        """The next bytes are being waited for."""
        self._waiting = True

    def moved(self, size: int) -> int:
        """So many bytes have come; return how many may be gathered before they are handed on."""
        self._bytes += size
        return _SPAN_IN_TURN if self._held else _SPAN_OUT_OF_TURN

    def rest(self) -> None:
        """What has come is being worked on: it is not the network that is waited for."""
        self._waiting = False

    def end(self) -> None:
        """Leave the turn to another body; may be called again."""
        if self._held:
            self._held = False
            self._turns.end(self)

    async def hand_over(self, size: int) -> None:
        """All of it is here: leave the turn to another body as soon as `size` bytes more may wait to be `kept`."""
        self._waiting = False
        if size:
            await self._turns.backlog.take(size)
            self._to_be_kept = size
        self.end()

    def kept(self) -> None:
        """Nothing of it waits to be kept any more; may be called again."""
        size, self._to_be_kept = self._to_be_kept, 0
        if size:
            self._turns.backlog.give_back(size)

    def look(self) -> None:
        """End the turn if its body was slow for as long as a whole look takes."""
        # What keeps a body that is not waiting is our own disk: its turn is what holds the others back, rightly.
        # The first look may come right after the beginning.
        if self._looks and self._waiting and self._bytes < _FAST * _PATIENCE:
            self.end()
        self._looks += 1
        self._bytes = 0
