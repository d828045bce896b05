"""Formats figures for people: counts, bytes, durations, money, and the speed of a run."""

from __future__ import annotations

from collections import deque

__all__ = ["Throughput", "cost_in_doubt", "count", "duration", "remaining", "size", "usd"]

_MINUTE = 60
_HOUR = 3600
_STEP = 1000


def count(number: int, noun: str) -> str:
    """Return a number with its noun.

    Example:
        >>> count(1, "image"), count(2310, "image")
        ('1 image', '2,310 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def size(number: float) -> str:
    """Return bytes in decimal units.

    Example:
        >>> size(999), size(1_500_000), size(3.4e9)
        ('999 B', '1.5 MB', '3.4 GB')
    """
    if number < _STEP:
        return f"{number:.0f} B"
    for unit in ("kB", "MB", "GB", "TB"):
        number /= _STEP
        # 999.95 would round to 1000.0.
        if number < _STEP - 0.05:
            return f"{number:.1f} {unit}"
    return f"{number / _STEP:,.1f} PB"


def duration(seconds: float) -> str:
    """Return a duration with two units at most.

    Example:
        >>> duration(4.26), duration(75), duration(7384)
        ('4.3 s', '1 min 15 s', '2 h 03 min')
    """
    if seconds < _MINUTE - 0.05:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < _HOUR:
        return f"{whole // _MINUTE} min {whole % _MINUTE:02d} s"
    return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE:02d} min"


def usd(amount: float) -> str:
    """Return an amount of US dollars.

    Example:
        >>> usd(92.4), usd(0.025)
        ('92.40 USD', '0.025 USD')
    """
    text = f"{amount:,.4f}".rstrip("0")
    whole, _, cents = text.partition(".")
    return f"{whole}.{cents.ljust(2, '0')} USD"


def cost_in_doubt(amount: float) -> str:
    """Return what requests in doubt may have cost; 0 stands for an unknown price.

    Example:
        >>> cost_in_doubt(0.12), cost_in_doubt(0.0)
        ('at most 0.12 USD', 'an unknown amount')
    """
    return f"at most {usd(amount)}" if amount else "an unknown amount"


def remaining(*, ended: int, total: int | None, elapsed: float) -> float | None:
    """Return the seconds left at the speed so far, or None if it is unknown.

    Args:
        ended: Jobs that ended in this run.
        total: Jobs of this run, ended or not.
        elapsed: Seconds so far.

    Example:
        >>> remaining(ended=25, total=100, elapsed=10.0)
        30.0
    """
    if total is None or ended <= 0:
        return None
    return max(0, total - ended) * elapsed / ended


class Throughput:
    """Measures images and bytes a second, over the last few seconds.

    Args:
        window: The number of seconds.

    Example:
        >>> speed = Throughput(window=10)
        >>> for second in range(4):
        ...     speed.note(float(second), images=2 * second, size=500 * second)
        >>> speed.images_per_s, speed.bytes_per_s
        (2.0, 500.0)
    """

    def __init__(self, *, window: float = 10.0) -> None:
        self._window = window
        self._marks: deque[tuple[float, int, int]] = deque()

    def note(self, now: float, *, images: int, size: int) -> None:
        """Record the totals at a moment."""
        self._marks.append((now, images, size))
        # One mark before the window stays: without it a slow run would have only one mark.
        while len(self._marks) > 2 and self._marks[1][0] <= now - self._window:  # noqa: PLR2004 - two marks make a speed
            self._marks.popleft()

    @property
    def images_per_s(self) -> float:
        """Images a second; 0 before the second mark."""
        return self._rate(1)

    @property
    def bytes_per_s(self) -> float:
        """Bytes a second; 0 before the second mark."""
        return self._rate(2)

    def _rate(self, column: int) -> float:
        if not self._marks:
            return 0.0
        first, last = self._marks[0], self._marks[-1]
        seconds = last[0] - first[0]
        return (last[column] - first[column]) / seconds if seconds > 0 else 0.0
