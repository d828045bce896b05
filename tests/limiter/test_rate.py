from __future__ import annotations

import math
import pickle

import attrs
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.limiter.rate import MOST_REMEMBERED, AcceptedRequests, LearnedRate
from imagen_async.limiter.tuning import Tuning
from tests.profiles import times


def refused_at_40_a_second() -> LearnedRate:
    """Requests left for two seconds at twice a limit of 40 a second, and one was just refused."""
    rate = LearnedRate(Tuning(margin=0.95))
    for number in range(160):
        rate.sent(number, now=number / 80, spread=0.0)
        if number % 2:
            rate.accepted.remove(number)
    rate.cut(159, at=159 / 80, after=160, pause=0.0, otherwise=1.0, now=2.0)
    return rate


def test_a_cut_finds_the_rate_at_which_requests_were_accepted() -> None:
    assert refused_at_40_a_second().rate == 40 * 0.95


def test_after_late_refusals_of_a_burst_the_rate_is_measured_again() -> None:
    rate = LearnedRate(Tuning(margin=1.0))
    for number in range(1, 51):
        rate.sent(number, now=number / 50, spread=0.0)
    # Responses overtake each other: the fiftieth is refused first, and nine others are after it.
    rate.accepted.remove(50)
    rate.cut(50, at=1.0, after=50, pause=0.0, otherwise=1.0, now=1.0)
    assert rate.rate == 49
    for number in range(41, 50):
        rate.accepted.remove(number)
    rate.sent(51, now=2.0, spread=0.0)
    assert rate.rate == 40


def test_requests_leave_evenly_and_a_late_timer_is_compensated() -> None:
    rate = refused_at_40_a_second()
    rate.sent(161, now=5.0, spread=0.0)
    spacing = 1.0 / rate.rate
    assert math.isclose(rate.next, 5.0 + spacing / 2)
    assert rate.sent(162, now=rate.next + spacing / 4, spread=0.0)
    assert math.isclose(rate.next, 5.0 + 3 * spacing / 2)


def test_without_a_rate_no_request_waits() -> None:
    rate = LearnedRate(Tuning())
    assert [rate.sent(number, now=0.0, spread=0.0) for number in (1, 2)] == [False, False]
    assert rate.next == 0.0


def test_if_nothing_was_accepted_the_rate_starts_low_and_doubles() -> None:
    rate = LearnedRate(Tuning(step=0.5, margin=1.0))
    rate.sent(1, now=0.0, spread=0.0)
    rate.accepted.remove(1)
    rate.cut(1, at=0.0, after=1, pause=0.0, otherwise=8.0, now=0.1)
    assert rate.rate == 8.0
    rate.grow(now=0.7)
    assert rate.rate == 16.0


# -- accepted requests -----------------------------------------------------------------------------------------------


def test_a_refused_request_does_not_count_as_accepted() -> None:
    accepted = AcceptedRequests(memory=60.0)
    for number in range(10):
        accepted.add(number, now=number / 10)
    accepted.remove(3)
    assert 3 not in accepted
    assert 4 in accepted
    assert accepted.rate(until=1.0, before=8, seconds=1.0) == 6.0


def test_requests_that_left_long_ago_do_not_count() -> None:
    accepted = AcceptedRequests(memory=60.0)
    for number in range(10):
        accepted.add(number, now=float(number))
    assert accepted.rate(until=9.0, before=10, seconds=2.0) == 1.0


def test_accepted_requests_are_forgotten_in_time() -> None:
    accepted = AcceptedRequests(memory=5.0)
    for number in range(1000):
        accepted.add(number, now=float(number))
    assert [number in accepted for number in (999, 990)] == [True, False]


class Table:
    """The same with a table of every request."""

    def __init__(self, memory: float) -> None:
        self.memory = memory
        self.left: dict[int, float] = {}
        self.last = (-1, -math.inf)

    def add(self, number: int, now: float) -> None:
        self.left[number], self.last = now, (number, now)

    def known(self) -> dict[int, float]:
        number, now = self.last
        return {n: at for n, at in self.left.items() if n > number - MOST_REMEMBERED and at >= now - self.memory}


@given(st.data(), st.floats(1, 100))
@times(0.5)
def test_accepted_requests_are_counted_like_in_a_table_of_all(data: st.DataObject, memory: float) -> None:
    accepted, table = AcceptedRequests(memory=memory), Table(memory)
    number, now = 0, 0.0
    for _ in range(data.draw(st.integers(1, 40))):
        number += data.draw(st.sampled_from([1, 1, 1, 2, 7, MOST_REMEMBERED - 1, MOST_REMEMBERED, 3 * MOST_REMEMBERED]))
        now += data.draw(st.floats(0, 30))
        accepted.add(number, now=now)
        table.add(number, now)
        if data.draw(st.booleans()):
            gone = number - data.draw(st.integers(0, 9))
            accepted.remove(gone)
            table.left.pop(gone, None)
        assert all((n in accepted) == (n in table.known()) for n in range(max(0, number - 20), number + 2))
    before, seconds = number - data.draw(st.integers(-2, 9)), data.draw(st.floats(0.5, memory))
    counted = sum(now - seconds < at and n < before for n, at in table.known().items())
    assert accepted.rate(until=now, before=before, seconds=seconds) == counted / seconds


def test_the_memory_for_accepted_requests_does_not_grow() -> None:
    accepted = AcceptedRequests(memory=60.0)
    accepted.add(0, now=0.0)
    before = pickle.dumps(attrs.astuple(accepted))
    for number in range(1, 3 * MOST_REMEMBERED):
        accepted.add(number, now=number / 1000)
    assert abs(len(pickle.dumps(attrs.astuple(accepted))) - len(before)) < 64
