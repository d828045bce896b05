"""Weak cases of the controller, for ``docs/explanation/performance.md``: ``python -m tests.docs.weak_cases``.

With ``--write`` the table is written into the page; a test compares the two.

Simulated by ``tests/limiter``, without sockets: 64 slots, 0.4 s of work on a request, nine runs each
(three seeds; times of work that vary by nothing, 30 % and 80 %).
"""

from __future__ import annotations

import math
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from imagen_async.limiter.controller import Controller
from tests.limiter.simulation import AtOnce, AtRandom, Bucket, Gateway, PerClockSpan, PerSpan, play

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["table"]

_PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "performance.md"
_HEAD = "| hidden limit | ideal time / time | refused, of all requests |\n| --- | ---: | ---: |\n"
_SLOTS = 64
_RUNS = [(seed, jitter) for seed in range(3) for jitter in (0.0, 0.3, 0.8)]


def _always(limit: float) -> Callable[[float], float]:
    return lambda _: limit


def _at_random(seed: int) -> Gateway:
    return AtRandom(0.1, AtOnce(_always(math.inf)), draw=random.Random(seed).random)


@attrs.frozen
class _Case:
    about: str
    gateway: Callable[[int], Gateway]
    ideal: float
    retry_after: float | None = None
    jobs: int = 800
    latency: float = 0.4


_CASES = (
    _Case("40 in any second, Retry-After: 1, for comparison", lambda _: PerSpan(_always(40)), 20.0, 1.0),
    _Case("40 in each of the clock's seconds, Retry-After: 1", lambda _: PerClockSpan(_always(40)), 20.0, 1.0),
    _Case("16 at once, Retry-After: 1", lambda _: AtOnce(_always(16)), 20.0, 1.0),
    _Case("a bucket of 5, filled with 40 a second", lambda _: Bucket(_always(40), 5), 20.0),
    _Case("the same, Retry-After: 1", lambda _: Bucket(_always(40), 5), 20.0, 1.0),
    _Case("a tenth refused at random", _at_random, 5.0),
    _Case("the same, Retry-After: 1", _at_random, 5.0, 1.0),
    _Case("20 a minute, 60 jobs of 8 s", lambda _: PerSpan(_always(20), 60.0), 120.0, jobs=60, latency=8.0),
)


def table() -> Iterator[str]:
    """Make the rows of the table: the share of the ideal pace, and the part of all requests that was refused."""
    for case in _CASES:
        ended = [
            play(
                Controller(most=_SLOTS),
                case.gateway(seed),
                jobs=case.jobs,
                latency=case.latency,
                jitter=jitter,
                seed=seed,
                retry_after=case.retry_after,
            )
            for seed, jitter in _RUNS
        ]
        shares = [case.ideal / each.seconds for each in ended]
        wasted = [100 * each.refused / (case.jobs + each.refused) for each in ended]
        yield (f"| {case.about} | {min(shares):.2f} – {max(shares):.2f} | {min(wasted):.0f} – {max(wasted):.0f} % |")


def _write(rows: str) -> None:
    text = _PAGE.read_text(encoding="utf-8")
    before, head, after = text.partition(_HEAD)
    _PAGE.write_text(before + head + rows + "\n\n<!-- /weak" + after.partition("<!-- /weak")[2], encoding="utf-8")


if __name__ == "__main__":
    rows = "\n".join(table())
    print(rows)  # noqa: T201 - what it is for
    if "--write" in sys.argv[1:]:
        _write(rows)
