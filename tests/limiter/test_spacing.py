from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.limiter.spacing import Spacing

steps = st.lists(st.floats(0, 200), min_size=2, max_size=40)


def place(rate: Spacing, now: float) -> float:
    """Wait for the rate; return when a request left."""
    now += rate.wait(now=now)
    rate.take(now=now)
    return now


@given(st.floats(0.1, 10_000), steps)
def test_requests_never_leave_in_the_past_or_closer_than_the_rate_allows(per_minute: float, waits: list[float]) -> None:
    rate = Spacing(per_minute)
    nows = list(accumulate(waits))
    places = [place(rate, now) for now in nows]
    assert all(place >= now for place, now in zip(places, nows, strict=True))
    assert all(after - before >= 60 / per_minute * (1 - 1e-9) - 1e-9 for before, after in pairwise(places))


@given(st.floats(0.1, 10_000), st.integers(1, 50))
def test_a_burst_leaves_at_the_rate_and_not_slower(per_minute: float, crowd: int) -> None:
    rate = Spacing(per_minute)
    places = [place(rate, 7.0) for _ in range(crowd)]
    assert places[-1] == pytest.approx(7.0 + (crowd - 1) * 60 / per_minute)


def test_idle_time_is_not_saved_up_for_a_burst() -> None:
    rate = Spacing(60)
    rate.take(now=0.0)
    assert [place(rate, 100.0) for _ in range(3)] == [100.0, 101.0, 102.0]


def test_a_request_that_counts_as_several_uses_as_much_of_the_rate() -> None:
    rate = Spacing(60)
    rate.take(4, now=0.0)
    assert rate.wait(now=1.0) == 3.0


@pytest.mark.parametrize("per_minute", [0, -1, float("nan")])
def test_a_rate_that_is_not_above_zero_is_invalid(per_minute: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Spacing(per_minute)
