"""One timer for many waits: it looks in on whichever may be over, and is early rather than moved.

A timer for each wait costs the event loop more than the wait itself, for nearly all are cancelled and have to be sorted
in and out again. Nothing here knows what is waited for.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["Watch", "Watched"]


class Watched(Protocol):
    """A wait that has a limit."""

    def look(self, now: float) -> float:
        """End the wait if it is time, by the event loop's clock; return when to look again, or infinity for never."""


class Watch:
    """Looks in on waits.

    Args:
        loop: The event loop that they are in.

    Example:
        >>> import asyncio
        >>> class Wait:
        ...     over = False
        ...     def look(self, now):
        ...         self.over = now >= self.end
        ...         return math.inf if self.over else self.end
        >>> async def main():
        ...     loop = asyncio.get_running_loop()
        ...     watch, wait = Watch(loop), Wait()
        ...     wait.end = loop.time() + 0.01
        ...     watch.begin(wait)
        ...     await asyncio.sleep(0.02)
        ...     return wait.over
        >>> asyncio.run(main())
        True
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._due: dict[Watched, float] = {}
        """When to look at each wait again."""
        self._timer: asyncio.TimerHandle | None = None
        self._wakes = math.inf

    def __repr__(self) -> str:
        return f"<Watch over {len(self._due)} waits>"

    def begin(self, wait: Watched) -> None:
        """Look at a wait, and then again whenever it says, until it is over or `end` is told."""
        self._see(wait, self.loop.time())
        # Most are due later than those that began before them.
        if (due := self._due.get(wait, math.inf)) < self._wakes:
            self._wake_at(due)

    def end(self, wait: Watched) -> None:
        """Forget a wait; nothing happens if it is forgotten already."""
        # The timer stays as it is: to wake once for nothing is cheaper.
        self._due.pop(wait, None)

    def close(self) -> None:
        """Let the timer go, unless somebody still waits: whose session it is may go on, and so do the limits."""
        if not self._due and self._timer is not None:
            self._timer.cancel()
            self._timer, self._wakes = None, math.inf

    def _see(self, wait: Watched, now: float) -> None:
        due = wait.look(now)
        if due < math.inf:
            self._due[wait] = due
        else:
            self._due.pop(wait, None)

    def _wake_at(self, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer, self._wakes = self.loop.call_at(due, self._wake), due

    def _wake(self) -> None:
        self._timer, self._wakes = None, math.inf
        now = self.loop.time()
        for wait in [wait for wait, due in self._due.items() if due <= now]:
            if wait in self._due:  # not ended by one before it
                self._see(wait, now)
        if self._due:
            self._wake_at(min(self._due.values()))
