from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from imagen_async.limiter.background import Background


def after_a_cut() -> Background:
    """A background without a history, right after a cut that takes effect immediately."""
    background = Background(at_first=0.2)
    background.cut(0, at=0.0, settled_at=0.0, anew=True)
    return background


def judged(background: Background, failed: list[int], *, grown: bool = False) -> list[bool]:
    return [background.judge(number, at=3.0, grown=grown) for number in failed]


def test_failures_that_go_on_after_a_cut_are_the_background() -> None:
    background = after_a_cut()
    assert judged(background, [10, 20, 30]) == [False, False, True]
    assert 0.05 < background.share < 0.1


def test_failures_in_a_row_mean_a_limit_without_room() -> None:
    background = after_a_cut()
    assert not any(judged(background, list(range(10, 60))))
    assert background.share == 0


def test_failures_that_become_rare_after_a_cut_are_not_a_background() -> None:
    background = after_a_cut()
    assert not any(judged(background, [100, 200, 300, 400]))
    assert background.share == 0


def test_many_failures_after_one_cut_may_mean_that_it_was_too_small() -> None:
    background = after_a_cut()
    assert not any(judged(background, list(range(2, 40, 2))))
    background.cut(40, at=1.0, settled_at=2.0, anew=False)
    assert judged(background, [42, 44, 46, 48, 50]) == [False, False, False, False, True]
    assert 0.3 < background.share < 0.6


def test_failures_after_growth_are_not_a_background() -> None:
    background = after_a_cut()
    assert not any(judged(background, [10, 20, 30], grown=True))
    assert background.share == 0


def test_requests_too_soon_after_a_cut_do_not_count() -> None:
    background = Background(at_first=0.2)
    background.cut(0, at=0.0, settled_at=5.0, anew=True)
    assert not any(judged(background, [10, 20, 30]))


def test_a_background_that_has_ended_is_forgotten() -> None:
    background = after_a_cut()
    judged(background, [10, 20, 30])
    background.cut(100, at=2.0, settled_at=2.0, anew=False)
    assert not background.judge(200, at=3.0, grown=False)
    assert background.share == 0


@given(st.permutations([3, 9, 4, 17, 30, 31, 32]))
def test_failures_add_up_in_any_order(numbers: list[int]) -> None:
    ordered, told = Background(at_first=0.2), Background(at_first=0.2)
    for number in sorted(numbers):
        ordered.add(number)
    for number in numbers:
        told.add(number)
    assert told.excess() == ordered.excess()


def test_only_a_share_above_the_allowed_one_adds_up() -> None:
    def longest(share: float) -> float:
        background, draw, most = Background(at_first=0.2), random.Random(1).random, 0.0
        for number in range(1000):
            if draw() < share:
                background.add(number)
                most = max(most, background.excess()[0])
        return most

    assert longest(0.05) < 4 < longest(0.4)


@given(st.lists(st.tuples(st.integers(0, 500), st.booleans(), st.booleans()), max_size=60))
def test_a_background_is_always_a_share(story: list[tuple[int, bool, bool]]) -> None:
    background = Background(at_first=0.2)
    for number, cuts, grown in story:
        if cuts:
            background.cut(number, at=number, settled_at=number + 1, anew=grown)
        background.add(number)
        background.judge(number, at=number, grown=grown)
        assert 0 <= background.share <= 0.8
        assert 0 < background.allowed < 1
        excess, share = background.excess()
        assert excess > 0
        assert 0 < share <= 60
