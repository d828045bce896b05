from __future__ import annotations

from imagen_async.limiter.tuning import Tuning
from imagen_async.limiter.window import Window


def window(size: float) -> Window:
    return Window(Tuning(patience=2.0), size)


def test_before_its_first_cut_it_grows_with_each_request() -> None:
    grown = window(8.0)
    for _ in range(20):
        grown.grow(16, now=0.0)
    assert grown.size == 16.0


def test_a_cut_leaves_what_was_in_flight_and_not_refused() -> None:
    cut = window(20.0)
    cut.cut(17, after=0, now=1.0)
    cut.overtaken(5)
    assert cut.size == 16.0
    assert cut.tried(now=2.0, seconds=4.0)
    assert not cut.tried(now=9.0, seconds=4.0)


def test_refusals_before_an_earlier_cut_do_not_count_again() -> None:
    cut = window(20.0)
    cut.cut(17, after=5, now=1.0)
    cut.overtaken(5)
    assert cut.size == 17.0


def test_overload_never_cuts_below_a_minimum() -> None:
    crowded = window(64.0)
    for now in range(50):
        crowded.crowd(64, share=1.0, now=float(now))
    assert crowded.size == 4.0


def test_after_repeated_overload_growth_is_tried_less_often() -> None:
    crowded = window(64.0)
    crowded.crowd(20, share=0.2, now=0.0)
    crowded.grow(64, now=2.0)
    assert crowded.size == 17.0
    crowded.crowd(17, share=0.2, now=3.0)
    crowded.grow(64, now=5.0)
    assert crowded.size < 14.0
    crowded.grow(64, now=7.0)
    assert crowded.size > 14.0


def test_after_an_outage_it_grows_with_each_request_to_where_it_was() -> None:
    down = window(32.0)
    for number in range(40):
        down.failed()
        if number % 8 == 7:
            down.crowd(32, share=1.0, now=0.0)
    assert down.size < 10.0
    for _ in range(40):
        down.worked()
        down.grow(64, now=0.0)
    assert 32.0 <= down.size < 33.0
