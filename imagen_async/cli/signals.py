"""Handles Ctrl-C and SIGTERM: the first signal drains, the second cancels, the third exits immediately.

The caller supplies the three steps; this module counts the signals.
"""

from __future__ import annotations

import asyncio
import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["SIGNALS", "Interruption", "listening"]

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruption:
    """Takes one step for each signal of a run.

    Args:
        drain: Called with the first signal's number.
        cancel: Called with the second's.
        leave: Called with the third's; may exit the process.

    Attributes:
        number: The first signal's number, or None before it.

    Example:
        >>> done = []
        >>> interruption = Interruption(
        ...     drain=lambda number: done.append("drain"),
        ...     cancel=lambda number: done.append("cancel"),
        ...     leave=lambda number: done.append("leave"),
        ... )
        >>> for number in (2, 15, 2):
        ...     interruption.arrived(number)
        >>> done, interruption.number
        (['drain', 'cancel', 'leave'], 2)
    """

    def __init__(
        self, *, drain: Callable[[int], None], cancel: Callable[[int], None], leave: Callable[[int], None]
    ) -> None:
        self._steps = [drain, cancel, leave]
        self.number: int | None = None

    def arrived(self, number: int) -> None:
        """Take the next step; the last step is repeated."""
        self.number = self.number or number
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        step(number)


@contextmanager
def listening(arrived: Callable[[int], None]) -> Iterator[None]:
    """Call `arrived` in the running event loop for each signal, and restore the handlers afterwards.

    Does nothing outside the main thread, where Python receives no signals, and on systems whose event loops do not
    support signal handlers.
    """
    loop = asyncio.get_running_loop()
    replaced: list[tuple[signal.Signals, Any]] = []
    try:
        for number in SIGNALS:
            before = signal.getsignal(number)
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, arrived, number)
                replaced.append((number, before))
        yield
    finally:
        for number, before in replaced:
            loop.remove_signal_handler(number)
            # The loop's removal restores Python's default, not the handler that asyncio.run had installed.
            signal.signal(number, before)
