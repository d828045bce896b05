"""Shows a run's progress on stderr: drawn live on a terminal, else as a plain line at intervals.

A display only reads the batch's counters. Both kinds write in a thread, so that a terminal or a pipe that stalls does
not block the event loop.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from imagen_async.cli.console import write_message

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from imagen_async.cli.figures import Figures

__all__ = ["Display", "PlainDisplay"]


class Display:
    """Shows notes only; the other displays show the progress of a run while their ``async with`` block lasts."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    def note(self, text: str) -> None:
        """Show what the run is about to do."""
        write_message(text)

    def trouble(self, text: str) -> None:
        """Show why a job did not succeed."""

    def abandon(self) -> None:
        """Restore the terminal, before the process exits immediately."""


class PlainDisplay(Display):
    """Prints a line at intervals, and one at the end.

    Args:
        figures: What the line says.
        every: Seconds between lines.
        sleep: Waits for a number of seconds.
        write: Prints a line.
    """

    def __init__(
        self,
        figures: Figures,
        *,
        every: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        write: Callable[[str], None] = write_message,
    ) -> None:
        self._figures = figures
        self._every = every
        self._sleep = sleep
        self._write = write
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._print(), name="imagen-progress")
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        self._write(self._figures.line())

    def note(self, text: str) -> None:
        """Print the note."""
        self._write(text)

    async def _print(self) -> None:
        while True:
            await self._sleep(self._every)
            await asyncio.to_thread(self._write, self._figures.line())
