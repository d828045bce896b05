"""Limits: requests in any minute, concurrent requests."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imagen_async.sandbox.limits import RequestLimits
from tests.sandbox.asking import FakeTime


def test_a_request_is_admitted_when_the_oldest_is_a_minute_old() -> None:
    time = FakeTime()
    gate = RequestLimits(rpm=2, max_concurrent=None, clock=time.clock)
    assert gate.admit() is None
    time.now = 10
    assert gate.admit() is None
    time.now = 45
    turned_away = gate.admit()
    assert turned_away is not None
    assert turned_away.wait_s == 15
    time.now = 60
    assert gate.admit() is None
    assert gate.admit() is not None


def test_a_refused_request_does_not_count() -> None:
    time = FakeTime()
    gate = RequestLimits(rpm=1, max_concurrent=None, clock=time.clock)
    gate.admit()
    for time.now in (10, 30, 59):
        assert gate.admit() is not None
    time.now = 60
    assert gate.admit() is None


def test_one_concurrent_request_too_many_is_refused_until_one_leaves() -> None:
    gate = RequestLimits(rpm=None, max_concurrent=2, clock=lambda: 0.0)
    assert [gate.admit() is None for _ in range(3)] == [True, True, False]
    gate.leave()
    assert gate.admit() is None
    assert gate.most_inside == 2


def test_a_request_refused_for_concurrency_does_not_count_for_the_minute() -> None:
    gate = RequestLimits(rpm=2, max_concurrent=1, clock=lambda: 0.0)
    gate.admit()
    assert gate.admit() is not None
    gate.leave()
    assert gate.admit() is None


@given(st.lists(st.floats(0, 30), max_size=60), st.integers(1, 5))
def test_no_minute_ever_admits_more_than_rpm(steps: list[float], rpm: int) -> None:
    time = FakeTime()
    gate = RequestLimits(rpm=rpm, max_concurrent=None, clock=time.clock)
    admitted = []
    for step in steps:
        time.now += step
        if gate.admit() is None:
            admitted.append(time.now)
    for first, later in zip(admitted, admitted[rpm:], strict=False):
        assert later - first >= 60
