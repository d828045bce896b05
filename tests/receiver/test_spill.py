from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.receiver.spill import OverflowPolicy
from tests.clock import FakeClock
from tests.receiving import spill_of


@given(st.integers(0, 100), st.lists(st.tuples(st.booleans(), st.integers(0, 60))))
def test_never_more_is_taken_than_there_is_room(room: int, steps: list[tuple[bool, int]]) -> None:
    spill = spill_of(OverflowPolicy(max_bytes=room))
    taken: list[int] = []
    for takes, size in steps:
        if takes:
            fits = sum(taken) + size <= room
            assert spill.reserve(size) is fits
            taken += [size] * fits
        elif taken:
            spill.release(taken.pop())
        assert spill.reserved == sum(taken) <= room


@pytest.mark.parametrize("seconds", [0.0, 0.1, 1.0, 30.0, 3600.0])
async def test_patience_tries_at_once_then_now_and_then_and_once_more_at_its_end(seconds: float) -> None:
    clock = FakeClock()
    patience = spill_of(OverflowPolicy(patience=seconds), clock=clock).store_retry()
    tries = 0
    while await patience.wait():
        tries += 1
    assert clock.now == pytest.approx(100.0 + seconds)
    assert tries >= (seconds > 0) + seconds // 4
    assert max(clock.slept, default=0.0) <= 4.0
