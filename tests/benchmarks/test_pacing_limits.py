from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pacing.limits import AnyNumber, AtOnce, Bucket, ClockSeconds, Schedule, SlidingSecond, Way

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 4
GAPS = st.lists(st.sampled_from([0.0, 0.01, 0.125, 0.25, 0.4, 1.0]), min_size=1, max_size=120)


def taken(way: Way, gaps: Iterable[float], *, busy: int = 0) -> list[float]:
    """When requests were taken that came after such gaps."""
    return [now for now in itertools.accumulate(gaps) if way.takes(now, busy=busy)]


@given(GAPS)
def test_no_span_of_a_second_holds_more_than_the_limit(gaps: list[float]) -> None:
    instants = taken(SlidingSecond(Schedule.steady(LIMIT)), gaps)
    assert all(later - first >= 1.0 for first, later in zip(instants, instants[LIMIT:], strict=False))


def test_a_request_that_is_refused_does_not_count() -> None:
    way = SlidingSecond(Schedule.steady(LIMIT))
    assert len(taken(way, [0.0] * LIMIT)) == LIMIT
    assert taken(way, [0.5, *[0.0] * 50]) == []
    assert len(taken(way, [1.0, *[0.0] * 50])) == LIMIT


@given(GAPS)
def test_a_bucket_gives_no_more_than_a_full_one_and_what_flowed_in(gaps: list[float]) -> None:
    instants = taken(Bucket(Schedule.steady(LIMIT)), gaps)
    spans = itertools.combinations_with_replacement(range(len(instants)), 2)
    assert all(last - first + 1 <= LIMIT * (1.0 + instants[last] - instants[first]) + 1e-6 for first, last in spans)


def test_a_bucket_is_full_at_first_and_refills_at_its_rate() -> None:
    way = Bucket(Schedule.steady(LIMIT))
    assert len(taken(way, [0.0] * 10)) == LIMIT
    assert not way.takes(0.2, busy=0)
    assert way.takes(0.25, busy=0)


def test_a_clock_second_ends_while_a_sliding_one_does_not() -> None:
    burst = [0.4, *[0.0] * 9, 0.2, *[0.0] * 9]
    assert len(taken(ClockSeconds(Schedule.steady(LIMIT)), burst)) == 2 * LIMIT
    assert len(taken(SlidingSecond(Schedule.steady(LIMIT)), burst)) == LIMIT


def test_requests_in_progress_are_compared_with_the_limit_of_the_instant() -> None:
    way = AtOnce(Schedule(((0.0, 4.0), (6.0, 2.0))))
    assert way.takes(5.9, busy=3)
    assert not way.takes(5.9, busy=4)
    assert not way.takes(6.0, busy=2)


def test_without_a_limit_every_request_is_accepted() -> None:
    assert len(taken(AnyNumber(Schedule.steady(LIMIT)), [0.0] * 50, busy=999)) == 50


@pytest.mark.parametrize(
    ("limit", "span", "seconds"),
    [
        (Schedule.steady(40), 1.0, 20.0),
        (Schedule.steady(16), 0.4, 20.0),
        (Schedule(((0, 40), (6, 20), (14, 40))), 1.0, 24.0),
        (Schedule(((0, 40), (100, 20))), 1.0, 20.0),
    ],
)
def test_the_ideal_time_uses_up_the_limit_at_every_instant(limit: Schedule, span: float, seconds: float) -> None:
    assert limit.ideal(800, span=span) == pytest.approx(seconds)


@given(st.integers(0, 500), st.integers(0, 500), st.sampled_from([0.4, 1.0]))
def test_more_jobs_take_longer_by_no_more_than_at_the_lowest_limit(jobs: int, more: int, span: float) -> None:
    limit = Schedule(((0, 40), (6, 20), (14, 40)))
    longer = limit.ideal(jobs + more, span=span) - limit.ideal(jobs, span=span)
    assert more * span / 40 - 1e-6 <= longer <= more * span / 20 + 1e-6


def test_a_quicker_schedule_reaches_the_same_limits_sooner() -> None:
    quicker = Schedule(((0, 40), (6, 20), (14, 40))).quicker(4)
    assert [quicker.at(now) for now in (0.0, 1.4, 1.5, 3.4, 3.5)] == [40, 40, 20, 20, 40]
