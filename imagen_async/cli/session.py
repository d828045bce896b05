"""Runs a batch with a display, and handles its signals: drain, cancel, exit."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import TYPE_CHECKING

from imagen_async.cli.display import Display, PlainDisplay
from imagen_async.cli.exit_codes import after_signal
from imagen_async.cli.figures import Figures
from imagen_async.cli.signals import Interruption, listening
from imagen_async.cli.summary import Ending, Reasons
from imagen_async.exceptions import ImagenError

if TYPE_CHECKING:
    from imagen_async.batch import Batch
    from imagen_async.cli.run_options import DisplayOptions
    from imagen_async.client.client import ImagenClient
    from imagen_async.outcome import Outcome

__all__ = ["Session", "progress_display"]


def progress_display(options: DisplayOptions, figures: Figures) -> Display:
    """Return the display that the options ask for; ``auto`` is live on a terminal and plain elsewhere."""
    mode = options.progress
    if mode == "off":
        return Display()
    if mode == "live" or (mode == "auto" and sys.stderr.isatty()):
        from rich.console import Console

        from imagen_async.cli.live import LiveDisplay

        return LiveDisplay(figures, Console(stderr=True, force_terminal=mode == "live" or None))
    return PlainDisplay(figures, every=options.progress_every)


class Session:
    """One run of a batch.

    Args:
        batch: The batch, not yet entered.
        client: The client that it uses.
        options: What is shown.
        reasons: Counts why jobs did not succeed.

    Attributes:
        interruption: What the signals of this run do.
    """

    def __init__(self, batch: Batch, client: ImagenClient, options: DisplayOptions, reasons: Reasons) -> None:
        self._batch = batch
        self._reasons = reasons
        self._display = progress_display(options, Figures(batch.progress, lambda: client.pace, time.monotonic))
        self.interruption = Interruption(drain=self._drain, cancel=self._cancel, leave=self._leave)
        self._task: asyncio.Task[object] | None = None
        self._begun = False

    async def run(self) -> Ending:
        """Run the batch to its end, an error or a signal, and return which it was.

        Raises:
            ImagenError: The batch could not begin.
        """
        self._task = asyncio.current_task()
        interruption = self.interruption
        error: ImagenError | None = None
        with listening(interruption.arrived):
            try:
                await self._take_outcomes()
            except asyncio.CancelledError:
                if interruption.number is None or self._task is None:
                    raise
                while self._task.uncancel():
                    pass  # each cancellation came from a signal
            except ImagenError as stopped:
                if not self._begun:
                    raise
                error = stopped
        return Ending(error=error, number=interruption.number, total=self._batch.progress.total)

    async def _take_outcomes(self) -> None:
        async with self._batch:
            self._begun = True
            async with self._display:
                async for outcome in self._batch:
                    self._note(outcome)

    def _note(self, outcome: Outcome) -> None:
        if outcome.error is not None:
            self._display.trouble(self._reasons.note(outcome.error))

    def _drain(self, number: int) -> None:
        if not self._begun:
            self._stop(f"{_name(number)}: cancelling; nothing has been sent")
            return
        self._batch.drain()
        in_flight = self._batch.progress.in_flight
        self._display.note(
            f"{_name(number)}: finishing the requests in flight ({in_flight} now), starting no others; "
            "a second signal cancels them"
        )

    def _cancel(self, number: int) -> None:
        self._stop(f"{_name(number)}: cancelling; a third signal exits immediately")

    def _stop(self, note: str) -> None:
        self._display.note(note)
        if self._task is not None:
            self._task.cancel()

    def _leave(self, number: int) -> None:
        self._display.abandon()
        os._exit(after_signal(self.interruption.number or number))


def _name(number: int) -> str:
    return signal.Signals(number).name
