from __future__ import annotations

import math
import tracemalloc

from hypothesis import given
from hypothesis import strategies as st

from imagen_async.limiter.accepted import _MOST, AcceptedRequests
from tests.profiles import times


def test_what_was_refused_was_not_taken() -> None:
    taken = AcceptedRequests(memory=60.0)
    for number in range(10):
        taken.add(number, now=number / 10)
    taken.remove(3)
    assert 3 not in taken
    assert 4 in taken
    assert taken.rate(until=1.0, before=8, seconds=1.0) == 6.0


def test_what_left_long_ago_does_not_count() -> None:
    taken = AcceptedRequests(memory=60.0)
    for number in range(10):
        taken.add(number, now=float(number))
    assert taken.rate(until=9.0, before=10, seconds=2.0) == 1.0


def test_it_remembers_no_longer_than_it_has_to() -> None:
    taken = AcceptedRequests(memory=5.0)
    for number in range(1000):
        taken.add(number, now=float(number))
    assert [number in taken for number in (999, 990)] == [True, False]


class Plainly:
    """The same, by a table of everything that ever left."""

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self.left: dict[int, float] = {}
        self.last = (-1, -math.inf)

    def add(self, number: int, now: float) -> None:
        self.left[number], self.last = now, (number, now)

    def known(self) -> dict[int, float]:
        number, now = self.last
        return {n: at for n, at in self.left.items() if n > number - _MOST and at >= now - self.memory}


@given(st.data(), st.floats(1, 100))
@times(0.5)
def test_it_counts_what_a_table_of_everything_counts(data: st.DataObject, memory: float) -> None:
    taken, plainly = AcceptedRequests(memory=memory), Plainly(memory)
    number, now = 0, 0.0
    for _ in range(data.draw(st.integers(1, 40))):
        number += data.draw(st.sampled_from([1, 1, 1, 2, 7, _MOST - 1, _MOST, 3 * _MOST]))
        now += data.draw(st.floats(0, 30))
        taken.add(number, now=now)
        plainly.add(number, now)
        if data.draw(st.booleans()):
            gone = number - data.draw(st.integers(0, 9))
            taken.remove(gone)
            plainly.left.pop(gone, None)
        assert all((n in taken) == (n in plainly.known()) for n in range(max(0, number - 20), number + 2))
    before, seconds = number - data.draw(st.integers(-2, 9)), data.draw(st.floats(0.5, memory))
    counted = sum(now - seconds < at and n < before for n, at in plainly.known().items())
    assert taken.rate(until=now, before=before, seconds=seconds) == counted / seconds


def test_its_memory_does_not_grow() -> None:
    taken = AcceptedRequests(memory=60.0)
    taken.add(0, now=0.0)
    tracemalloc.start()
    try:
        for number in range(1, 20_000):
            taken.add(number, now=number / 1000)
        assert tracemalloc.get_traced_memory()[0] < 1024
    finally:
        tracemalloc.stop()
