"""Ctrl-C and SIGTERM: the first lets what is in flight finish, the second cancels it, the third leaves at once.

What finishing, cancelling and leaving are is told by the caller; this module counts and listens.
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
    """What the signals of one run do.

    Args:
        drain: Called with the first signal's number.
        cancel: Called with the second's.
        leave: Called with the third's; need not return.

    Attributes:
        number: The first signal's number, or None: there was none.

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
        """Take the next step."""
        self.number = self.number or number
        step = self._steps.pop(0) if len(self._steps) > 1 else self._steps[0]
        step(number)


@contextmanager
def listening(arrived: Callable[[int], None]) -> Iterator[None]:
    """Have `arrived` called, in the running event loop, for each signal; afterwards signals do what they did.

    Nothing is heard outside the main thread, where Python hears no signals, and on systems whose loops cannot listen.
    """
    loop = asyncio.get_running_loop()
    heard: list[tuple[signal.Signals, Any]] = []
    try:
        for number in SIGNALS:
            before = signal.getsignal(number)
            with suppress(NotImplementedError, RuntimeError, ValueError):
                loop.add_signal_handler(number, arrived, number)
                heard.append((number, before))
        yield
    finally:
        for number, before in heard:
            loop.remove_signal_handler(number)
            # The loop's removal puts back Python's default, not what asyncio.run had installed.
            signal.signal(number, before)
