from __future__ import annotations

import math

from imagen_async.limiter.rate import LearnedRate
from imagen_async.limiter.tuning import Tuning


def refused_at_40_a_second() -> LearnedRate:
    """Requests left for two seconds at twice a limit of 40 a second, and one was just refused."""
    speed = LearnedRate(Tuning(margin=0.95))
    for number in range(160):
        speed.sent(number, now=number / 80, spread=0.0)
        if number % 2:
            speed.taken.remove(number)
    speed.cut(159, at=159 / 80, after=160, pause=0.0, otherwise=1.0, now=2.0)
    return speed


def test_a_cut_finds_the_rate_at_which_requests_were_taken() -> None:
    assert refused_at_40_a_second().rate == 40 * 0.95


def test_after_a_pause_what_was_refused_of_a_crowd_is_known_and_counted_again() -> None:
    speed = LearnedRate(Tuning(margin=1.0))
    for number in range(1, 51):
        speed.sent(number, now=number / 50, spread=0.0)
    # Answers overtake each other: the fiftieth is refused first, and nine others are after it.
    speed.taken.remove(50)
    speed.cut(50, at=1.0, after=50, pause=0.0, otherwise=1.0, now=1.0)
    assert speed.rate == 49
    for number in range(41, 50):
        speed.taken.remove(number)
    speed.sent(51, now=2.0, spread=0.0)
    assert speed.rate == 40


def test_requests_leave_evenly_and_a_late_timer_is_made_up_for() -> None:
    speed = refused_at_40_a_second()
    speed.sent(161, now=5.0, spread=0.0)
    spacing = 1.0 / speed.rate
    assert math.isclose(speed.next, 5.0 + spacing / 2)
    assert speed.sent(162, now=speed.next + spacing / 4, spread=0.0)
    assert math.isclose(speed.next, 5.0 + 3 * spacing / 2)


def test_without_a_rate_nobody_waits() -> None:
    speed = LearnedRate(Tuning())
    assert [speed.sent(number, now=0.0, spread=0.0) for number in (1, 2)] == [False, False]
    assert speed.next == 0.0


def test_where_nothing_was_taken_the_rate_begins_low_and_doubles() -> None:
    speed = LearnedRate(Tuning(step=0.5, margin=1.0))
    speed.sent(1, now=0.0, spread=0.0)
    speed.taken.remove(1)
    speed.cut(1, at=0.0, after=1, pause=0.0, otherwise=8.0, now=0.1)
    assert speed.rate == 8.0
    speed.grow(now=0.7)
    assert speed.rate == 16.0
