"""What a client takes from its surroundings, time and chance; tests replace it."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

import attrs

__all__ = ["Runtime"]


@attrs.frozen(kw_only=True)
class Runtime:
    """Clocks, sleep and random numbers.

    Attributes:
        clock: Returns monotonic seconds.
        wall_clock: Returns seconds since the epoch.
        sleep: Waits for some seconds.
        draw: Returns a random number from 0 to 1.
    """

    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random
