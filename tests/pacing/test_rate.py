from __future__ import annotations

from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.pacing.rate import Pause, Rate

steps = st.lists(st.floats(0, 200), min_size=2, max_size=40)


@given(st.floats(0.1, 10_000), steps)
def test_places_are_never_in_the_past_and_never_closer_than_the_rate_allows(
    per_minute: float, waits: list[float]
) -> None:
    rate = Rate(per_minute)
    nows = list(accumulate(waits))
    places = [rate.reserve(now=now) for now in nows]
    assert all(place >= now for place, now in zip(places, nows, strict=True))
    assert all(after - before >= 60 / per_minute * (1 - 1e-9) - 1e-9 for before, after in pairwise(places))


@given(st.floats(0.1, 10_000), st.integers(1, 50))
def test_a_crowd_leaves_at_the_rate_and_no_slower(per_minute: float, crowd: int) -> None:
    rate = Rate(per_minute)
    places = [rate.reserve(now=7.0) for _ in range(crowd)]
    assert places[-1] == pytest.approx(7.0 + (crowd - 1) * 60 / per_minute)


def test_idle_time_is_not_saved_up_for_a_burst() -> None:
    rate = Rate(60)
    rate.reserve(now=0.0)
    assert [rate.reserve(now=100.0) for _ in range(3)] == [100.0, 101.0, 102.0]


@pytest.mark.parametrize("per_minute", [0, -1, float("nan")])
def test_a_rate_of_nothing_is_refused(per_minute: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        Rate(per_minute)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 1000)), min_size=1, max_size=20))
def test_a_pause_lasts_as_long_as_the_longest_that_was_asked_for(asked: list[tuple[float, float]]) -> None:
    pause = Pause()
    now, end = 0.0, 0.0
    for later, seconds in asked:
        now += later
        pause.hold(seconds, now=now)
        end = max(end, now + seconds)
        assert pause.remaining(now=now) == end - now
    assert pause.remaining(now=end) == 0.0


def test_without_a_pause_something_may_leave_at_any_time() -> None:
    assert Pause().remaining(now=-1e9) == 0.0
