from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.cli.formatting import Throughput, duration, remaining, size, usd


@given(st.integers(0, 10**15))
def test_a_size_never_shows_a_thousand_of_a_unit(number: int) -> None:
    text = size(number)
    assert re.fullmatch(r"\d{1,3}(\.\d)? (B|kB|MB|GB|TB)|1,?000\.0 PB|\d\.\d PB", text), text


@given(st.floats(0, 10**7))
def test_a_duration_never_shows_sixty_of_a_unit(seconds: float) -> None:
    text = duration(seconds)
    assert not re.search(r"(^|\s)60(\.0)? (s|min)", text), text


@pytest.mark.parametrize(("amount", "text"), [(0, "0.00 USD"), (0.02, "0.02 USD"), (1234.5, "1,234.50 USD")])
def test_money_has_at_least_cents(amount: float, text: str) -> None:
    assert usd(amount) == text


def test_the_time_left_is_unknown_before_a_job_has_ended() -> None:
    assert remaining(ended=0, total=10, elapsed=5.0) is None
    assert remaining(ended=5, total=None, elapsed=5.0) is None
    assert remaining(ended=12, total=10, elapsed=5.0) == 0.0


def test_speed_ignores_marks_before_its_window() -> None:
    speed = Throughput(window=10)
    assert speed.images_per_s == 0.0
    speed.note(0.0, images=0, size=0)
    assert speed.images_per_s == 0.0
    speed.note(100.0, images=1000, size=0)
    for second in range(101, 121):
        speed.note(float(second), images=1000 + (second - 100), size=0)
    assert speed.images_per_s == pytest.approx(1.0)


def test_speed_keeps_a_bounded_number_of_marks() -> None:
    speed = Throughput(window=10)
    for tick in range(10_000):
        speed.note(tick / 4, images=tick, size=tick)
    assert len(speed._marks) <= 43
