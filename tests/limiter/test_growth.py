from __future__ import annotations

from imagen_async.limiter.growth import Growth
from imagen_async.limiter.tuning import Tuning


def begun() -> Growth:
    growth = Growth(Tuning(patience=2.0, step=0.5, growth=0.1, fastest=0.4))
    growth.begin(now=0.0)
    return growth


def test_nothing_grows_before_the_first_cut() -> None:
    assert Growth(Tuning()).due(now=1e9) == 0.0


def test_growth_starts_later_and_gets_faster_with_each_step() -> None:
    growth = begun()
    assert [growth.due(now=now) for now in (1.9, 2.0, 2.4, 2.5, 3.0, 3.5)] == [0.0, 0.1, 0.0, 0.2, 0.4, 0.4]
    assert growth.grown


def test_another_cut_ends_growth() -> None:
    growth = begun()
    growth.due(now=2.0)
    growth.begin(now=2.1, patience=5.0)
    assert not growth.grown
    assert growth.due(now=7.0) == 0.0
    assert growth.due(now=7.1) == 0.1


def test_doubling_takes_no_patience() -> None:
    growth = begun()
    growth.double(now=0.0)
    assert [growth.due(now=now) for now in (0.4, 0.5, 1.0)] == [0.0, 1.0, 1.0]
