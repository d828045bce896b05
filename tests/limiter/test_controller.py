from __future__ import annotations

import math
import random
import statistics
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from imagen_async.limiter.controller import Controller, Permit, Verdict
from tests.limiter.simulation import (
    AtOnce,
    AtRandom,
    Bucket,
    Crowded,
    Ended,
    Gateway,
    Outage,
    PerClockSpan,
    PerSpan,
    play,
)

if TYPE_CHECKING:
    from collections.abc import Callable

JOBS, SIZE = 800, 64


def always(limit: float) -> Callable[[float], float]:
    return lambda _: limit


def halved_and_doubled(limit: float) -> Callable[[float], float]:
    return lambda now: limit / 2 if 6.0 <= now < 13.0 else limit


PER_SECOND: dict[str, Callable[[], Gateway]] = {
    "any second": lambda: PerSpan(always(40)),
    "the clock's seconds": lambda: PerClockSpan(always(40)),
    "a bucket of a second": lambda: Bucket(always(40), 40),
    "a bucket of five": lambda: Bucket(always(40), 5),
}
RUNS = [(seed, jitter) for seed in range(3) for jitter in (0.0, 0.3, 0.8)]


def runs(gateway: Callable[[], Gateway], *, retry_after: float | None = None, jobs: int = JOBS) -> list[Ended]:
    return [
        play(Controller(most=SIZE), gateway(), jobs=jobs, jitter=jitter, seed=seed, retry_after=retry_after)
        for seed, jitter in RUNS
    ]


def random_runs(
    share: float,
    behind: Callable[[], Gateway],
    why: Verdict = Verdict.REFUSED,
    *,
    retry_after: float | None = None,
    jobs: int = JOBS,
) -> list[Ended]:
    return [
        play(
            Controller(most=SIZE),
            AtRandom(share, behind(), why, random.Random(seed).random),
            jobs=jobs,
            jitter=jitter,
            seed=seed,
            retry_after=retry_after,
        )
        for seed, jitter in RUNS
    ]


def no_limit() -> Gateway:
    return AtOnce(always(math.inf))


def least_share(ended: list[Ended], ideal: float) -> float:
    """The smallest part of the ideal speed that any run reached."""
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


def test_a_limit_of_requests_in_flight_is_found_and_kept() -> None:
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
def test_most_requests_are_accepted_however_the_gateway_counts(kind: str, retry_after: float | None) -> None:
    ended = runs(PER_SECOND[kind], retry_after=retry_after)
    assert most_wasted(ended) <= 0.12
    assert least_share(ended, JOBS / 40) >= (0.7 if retry_after is None else 0.5)


def test_a_limit_by_the_clock_s_seconds_is_kept_where_each_refusal_costs_a_wait() -> None:
    ended = runs(lambda: PerClockSpan(always(40)), retry_after=1.0)
    assert least_share(ended, JOBS / 40) >= 0.90
    assert most_wasted(ended) <= 0.05


def test_a_limit_of_requests_in_flight_costs_few_waits_where_each_refusal_costs_one() -> None:
    ended = runs(lambda: AtOnce(always(16)), retry_after=1.0)
    assert least_share(ended, JOBS * 0.4 / 16) >= 0.6


def test_random_refusals_do_not_lower_the_limits() -> None:
    ended = random_runs(0.1, no_limit)
    for each in ended:
        assert (JOBS + each.refused) * 0.4 / SIZE / each.seconds >= 0.7


def test_even_two_of_three_refused_at_random_do_not_stop_a_run() -> None:
    seconds = [
        play(
            Controller(most=8),
            AtRandom(2 / 3, no_limit(), draw=random.Random(seed).random),
            jobs=50,
            latency=0.005,
            jitter=jitter,
            seed=seed,
        ).seconds
        for seed in range(8)
        for jitter in (0.0, 0.3, 0.8)
    ]
    assert statistics.median(seconds) < 6.0
    assert max(seconds) < 120.0


def test_a_limit_is_found_behind_random_refusals() -> None:
    ended = random_runs(0.1, lambda: PerSpan(always(40)))
    assert least_share(ended, JOBS / 40) >= 0.75
    assert most_wasted(ended) <= 0.3


def test_random_refusals_that_name_a_wait_cost_their_waits_and_little_more() -> None:
    for each in random_runs(0.1, no_limit, retry_after=1.0):
        assert each.early == 0
        assert each.seconds < 2.0 * each.refused


def test_a_few_random_refusals_hardly_slow_a_short_run() -> None:
    for seed in range(8):
        gateway = AtRandom(0.1, no_limit(), draw=random.Random(seed).random)
        ended = play(Controller(most=8), gateway, jobs=32, latency=1.15, jitter=0.74, seed=seed)
        assert ended.seconds < 8.0, seed


def test_random_failures_do_not_lower_the_limits() -> None:
    jobs = 4 * JOBS
    failing = random_runs(0.05, no_limit, Verdict.OVERLOADED, jobs=jobs)
    for each, whole in zip(failing, runs(no_limit, jobs=jobs), strict=True):
        assert each.seconds <= 1.05 * whole.seconds * (jobs + each.failed) / jobs


def test_a_gateway_that_fails_when_crowded_is_not_crowded() -> None:
    for seed, jitter in RUNS:
        controller = Controller(most=SIZE)
        gateway = Crowded(always(16), 0.6, random.Random(seed).random)
        ended = play(controller, gateway, jobs=JOBS, jitter=jitter, seed=seed)
        assert 8 <= controller.limit <= 24
        assert JOBS * 0.4 / 16 / ended.seconds >= 0.6
        assert ended.failed <= 0.2 * JOBS


def test_after_an_outage_all_permits_are_soon_in_use_again() -> None:
    for seed, jitter in RUNS:
        controller = Controller(most=SIZE)
        ended = play(controller, Outage(2.0, 5.0, no_limit()), jobs=JOBS, jitter=jitter, seed=seed)
        assert controller.limit == SIZE
        assert ended.seconds < 16.0


def test_a_limit_of_a_few_a_minute_is_not_hammered() -> None:
    ended = play(Controller(most=SIZE), PerSpan(always(20), 60.0), jobs=60, latency=8.0, jitter=0.3)
    assert ended.seconds < 300.0
    assert ended.refused <= 40


def test_without_a_limit_all_permits_are_in_use_within_a_few_round_trips() -> None:
    controller = Controller(most=SIZE)
    ended = play(controller, AtOnce(always(math.inf)), jobs=400)
    assert (ended.refused, ended.most) == (0, SIZE)
    assert controller.rate == math.inf


def leaving(controller: Controller, *, now: float, seconds: float) -> list[float]:
    """When requests leave in some seconds if none of them ends."""
    end, left = now + seconds, []
    while now < end:
        permit = controller.take(now=now)
        if isinstance(permit, Permit):
            left.append(now)
        else:
            now += permit
    return left


def gaps(instants: list[float]) -> list[float]:
    return [later - earlier for earlier, later in pairwise(instants)]


def test_after_a_pause_requests_do_not_leave_in_a_burst() -> None:
    controller = Controller(most=8)
    controller.hold(2.0, now=0.0)
    left = leaving(controller, now=0.0, seconds=10.0)
    assert left[0] == 2.0
    assert len(left) == 8
    assert min(gaps(left)) > 0.004


def test_after_a_pause_requests_leave_at_the_rate_that_is_known() -> None:
    controller = Controller(most=SIZE)
    play(controller, PerSpan(always(40)), jobs=400)
    assert controller.rate < math.inf
    controller.hold(2.0, now=100.0)
    left = leaving(controller, now=100.0, seconds=2.5)
    assert left[0] == 102.0
    assert min(gaps(left)) > 0.9 / controller.rate


def full_round(controller: Controller, now: float) -> int:
    """Send as many as may be in flight, and let all be accepted."""
    in_flight = []
    while (permit := controller.take(now=now)) != math.inf:
        if isinstance(permit, Permit):
            in_flight.append(permit)
        else:
            now += permit
    for permit in in_flight:
        controller.ended(permit, Verdict.ACCEPTED, now=now + 0.4)
    return len(in_flight)


def test_new_room_is_used_within_a_few_round_trips() -> None:
    controller = Controller(most=4)
    assert [full_round(controller, now) for now in (0.0, 1.0)] == [4, 4]
    controller.allow(SIZE)
    assert max(full_round(controller, now) for now in range(2, 9)) == SIZE


def test_room_that_is_taken_away_is_not_used() -> None:
    controller = Controller(most=SIZE)
    assert max(full_round(controller, now) for now in range(9)) == SIZE
    controller.allow(3)
    assert full_round(controller, 10.0) == 3
    controller.allow(SIZE)
    assert full_round(controller, 11.0) == SIZE


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
    controller = Controller(most=SIZE)
    ended = play(
        controller, gateway, jobs=30, latency=latency, jitter=0.5, retry_after=retry_after, seed=seed, longest=86_400.0
    )
    assert ended.early == 0
    assert ended.seconds < 86_400.0 or limit * 4 < 1
    assert ended.most <= SIZE


class AnyStory(RuleBasedStateMachine):
    """Requests leave and end in any order, with any result."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 50.0
        self.until = 0.0
        self.controller = Controller(most=9)
        self.in_flight: list[Permit] = []
        self.most_ever = 9

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(in_time=st.booleans())
    def one_asks(self, *, in_time: bool) -> None:
        wait = self.controller.take(now=self.now)
        if not isinstance(wait, Permit):
            assert wait > 0
            assert wait < math.inf or self.in_flight
            if wait == math.inf or not in_time:
                return
            self.now += wait + 1e-6
            wait = self.controller.take(now=self.now)
        assert isinstance(wait, Permit), "a wait that is over permits a request"
        assert self.now >= self.until
        assert len(self.in_flight) < self.controller.most
        self.in_flight.append(wait)

    @precondition(lambda self: self.in_flight)
    @rule(
        which=st.integers(0, 19),
        verdict=st.sampled_from(Verdict),
        wait=st.none() | st.floats(0, 1e5),
    )
    def one_ends(self, which: int, verdict: Verdict, wait: float | None) -> None:
        permit = self.in_flight.pop(which % len(self.in_flight))
        self.controller.ended(permit, verdict, now=self.now, retry_after=wait)
        if wait is not None:
            self.until = max(self.until, self.now + wait)

    @rule(most=st.integers(1, 20))
    def clients_join_and_leave(self, most: int) -> None:
        self.controller.allow(most)
        self.most_ever = max(self.most_ever, most)

    @invariant()
    def limits_make_sense(self) -> None:
        controller = self.controller
        assert controller.in_flight == len(self.in_flight) <= self.most_ever
        assert 1 <= controller.limit <= controller.most
        assert controller.rate > 0


TestAnyStory = AnyStory.TestCase
