"""Shows a run's progress on stderr: drawn live on a terminal, else as a plain line at intervals.

A display only reads the batch's counters. Both kinds write in a thread, so that a terminal or a pipe that stalls does
not block the event loop.
"""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Literal, Protocol, Self

from imagen_async.cli.console import write_message
from imagen_async.cli.figures import Figures

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from types import TracebackType

    from imagen_async.batch import Progress
    from imagen_async.limiter.limiter import PaceState

__all__ = ["Display", "NoDisplay", "PlainDisplay", "progress_display"]


class Display(Protocol):
    """Shows the progress of a run while its ``async with`` block lasts."""

    async def __aenter__(self) -> Self: ...

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def note(self, text: str) -> None:
        """Show what the run is about to do."""

    def trouble(self, text: str) -> None:
        """Show why a job did not succeed."""

    def abandon(self) -> None:
        """Restore the terminal, before the process exits immediately."""


def progress_display(
    mode: Literal["auto", "live", "plain", "off"],
    counters: Progress,
    pace: Callable[[], PaceState],
    *,
    every: float,
    clock: Callable[[], float],
) -> Display:
    """Return the display for a mode; ``auto`` is live on a terminal and plain elsewhere."""
    if mode == "off":
        return NoDisplay()
    figures = Figures(counters, pace, clock)
    if mode == "live" or (mode == "auto" and sys.stderr.isatty()):
        from rich.console import Console

        from imagen_async.cli.live import LiveDisplay

        return LiveDisplay(figures, Console(stderr=True, force_terminal=mode == "live" or None))
    return PlainDisplay(figures, every=every)


class NoDisplay:
    """Shows notes only."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def note(self, text: str) -> None:
        """Print the note."""
        write_message(text)

    def trouble(self, text: str) -> None:
        """Show nothing."""

    def abandon(self) -> None:
        """Do nothing."""


class PlainDisplay(NoDisplay):
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
