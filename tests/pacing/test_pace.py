from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imagen_async.pacing.pace import Pace, Ticket, Verdict
from tests.pacing.simulation import AtOnce, Bucket, Ended, Gateway, PerSpan, play

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS, SLOTS = 800, 64


def always(limit: float) -> Callable[[float], float]:
    return lambda _: limit


def halved_and_doubled(limit: float) -> Callable[[float], float]:
    return lambda now: limit / 2 if 6.0 <= now < 13.0 else limit


PER_SECOND: dict[str, Callable[[], Gateway]] = {
    "any second": lambda: PerSpan(always(40)),
    "a bucket of a second": lambda: Bucket(always(40), 40),
    "a bucket of five": lambda: Bucket(always(40), 5),
}
RUNS = [(seed, jitter) for seed in range(3) for jitter in (0.0, 0.3, 0.8)]


def runs(gateway: Callable[[], Gateway], *, retry_after: float | None = None, jobs: int = JOBS) -> list[Ended]:
    return [
        play(Pace(most=SLOTS), gateway(), jobs=jobs, jitter=jitter, seed=seed, retry_after=retry_after)
        for seed, jitter in RUNS
    ]


def least_share(ended: list[Ended], ideal: float) -> float:
    """The smallest part of the ideal pace that any run reached."""
    return min(ideal / each.seconds for each in ended)


def most_wasted(ended: list[Ended], jobs: int = JOBS) -> float:
    """The largest part of any run's requests that were refused."""
    return max(each.refused / (jobs + each.refused) for each in ended)


def test_a_limit_of_requests_a_second_is_found_and_kept() -> None:
    ended = runs(lambda: PerSpan(always(40)))
    assert least_share(ended, JOBS / 40) >= 0.92
    assert most_wasted(ended) <= 0.05


def test_a_limit_of_requests_a_second_is_kept_where_each_refusal_costs_a_wait() -> None:
    ended = runs(lambda: PerSpan(always(40)), retry_after=1.0)
    assert least_share(ended, JOBS / 40) >= 0.90
    assert most_wasted(ended) <= 0.05


def test_a_limit_of_requests_at_once_is_found_and_kept() -> None:
    ended = runs(lambda: AtOnce(always(16)))
    assert least_share(ended, JOBS * 0.4 / 16) >= 0.92
    assert most_wasted(ended) <= 0.05


def test_a_limit_that_halves_and_doubles_is_followed() -> None:
    ended = runs(lambda: PerSpan(halved_and_doubled(40)))
    ideal = 13.0 + (JOBS - 6 * 40 - 7 * 20) / 40
    assert least_share(ended, ideal) >= 0.85
    assert most_wasted(ended) <= 0.08


@pytest.mark.parametrize("kind", PER_SECOND)
@pytest.mark.parametrize("retry_after", [None, 0.5, 1.0])
def test_however_a_gateway_counts_most_requests_are_taken(kind: str, retry_after: float | None) -> None:
    ended = runs(PER_SECOND[kind], retry_after=retry_after)
    assert most_wasted(ended) <= 0.1
    assert least_share(ended, JOBS / 40) >= 0.5


def test_a_limit_of_a_few_a_minute_is_not_hammered() -> None:
    ended = play(Pace(most=SLOTS), PerSpan(always(20), 60.0), jobs=60, latency=8.0, jitter=0.3)
    assert ended.seconds < 300.0
    assert ended.refused <= 40


def test_without_a_limit_all_slots_are_in_use_within_a_few_round_trips() -> None:
    pace = Pace(most=SLOTS)
    ended = play(pace, AtOnce(always(math.inf)), jobs=400)
    assert (ended.refused, ended.most) == (0, SLOTS)
    assert pace.rate == math.inf


@given(
    st.integers(0, 2**32),
    st.floats(0.01, 30.0),
    st.floats(0.01, 3.0),
    st.integers(1, 60),
    st.sampled_from([None, 0.25, 1.0, 20.0]),
)
def test_nothing_leaves_early_and_everything_is_done_in_the_end(
    seed: int, limit: float, latency: float, at_once: int, retry_after: float | None
) -> None:
    gateway: Gateway = PerSpan(always(limit * 4), 4.0) if seed % 2 else AtOnce(always(at_once))
    pace = Pace(most=SLOTS)
    ended = play(
        pace, gateway, jobs=30, latency=latency, jitter=0.5, retry_after=retry_after, seed=seed, longest=86_400.0
    )
    assert ended.early == 0
    assert ended.seconds < 86_400.0 or limit * 4 < 1
    assert ended.most <= SLOTS


class AnyStory(RuleBasedStateMachine):
    """Requests leave and end in any order, for good and for bad."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 50.0
        self.until = 0.0
        self.pace = Pace(most=9)
        self.under_way: list[Ticket] = []

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.pace.wait(now=self.now) == 0)
    @rule()
    def one_leaves(self) -> None:
        assert self.now >= self.until
        self.under_way.append(self.pace.sent(now=self.now))

    @precondition(lambda self: self.under_way)
    @rule(
        which=st.integers(0, 8),
        verdict=st.sampled_from(Verdict),
        wait=st.none() | st.floats(0, 1e5),
    )
    def one_ends(self, which: int, verdict: Verdict, wait: float | None) -> None:
        ticket = self.under_way.pop(which % len(self.under_way))
        self.pace.ended(ticket, verdict, now=self.now, retry_after=wait)
        if wait is not None:
            self.until = max(self.until, self.now + wait)

    @invariant()
    def limits_make_sense(self) -> None:
        pace = self.pace
        assert pace.in_flight == len(self.under_way) <= 9
        assert 1 <= pace.limit <= 9
        assert pace.rate > 0

    @invariant()
    def nobody_waits_for_ever(self) -> None:
        wait = self.pace.wait(now=self.now)
        assert wait >= 0
        assert wait < math.inf or self.under_way
        if wait < math.inf:
            assert self.pace.wait(now=self.now + wait) <= 1e-6


TestAnyStory = AnyStory.TestCase
