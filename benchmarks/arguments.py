"""Values of options that both command lines of the benchmarks take."""

from __future__ import annotations

__all__ = ["natural"]


def natural(text: str) -> int:
    """Read a whole number from 1.

    Raises:
        ValueError: It is none; argparse makes a message of it.
    """
    number = int(text)
    if number < 1:
        raise ValueError
    return number
