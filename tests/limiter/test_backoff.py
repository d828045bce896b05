from __future__ import annotations

import math
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import FailureClass
from imagen_async.limiter.backoff import RetryPolicy

draws = st.floats(0, 1)
seconds = st.floats(0, 1e6)
RETRYABLE = [FailureClass.NEVER_SENT, FailureClass.REFUSED, FailureClass.AMBIGUOUS]


@given(st.integers(1, 10**6), draws, seconds, seconds, st.none() | seconds)
def test_a_wait_is_the_gateway_s_own_and_up_to_the_ceiling_more(
    failures: int, draw: float, initial: float, longest: float, retry_after: float | None
) -> None:
    policy = RetryPolicy(initial=initial, longest=longest)
    wait = policy.delay(failures=failures, draw=draw, retry_after=retry_after)
    least = retry_after or 0.0
    assert math.isfinite(wait)
    assert least <= wait <= (least + longest) * (1 + 1e-9)


def test_the_ceiling_doubles_with_each_failure_up_to_the_longest() -> None:
    policy = RetryPolicy(initial=0.5, longest=10.0)
    assert [policy.delay(failures=n, draw=1.0) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_jitter_is_full_from_nothing_to_the_ceiling() -> None:
    policy = RetryPolicy(initial=8.0)
    assert [policy.delay(failures=1, draw=draw) for draw in (0.0, 0.25, 0.5, 1.0)] == [0, 2, 4, 8]


def test_jobs_that_were_told_the_same_wait_do_not_come_back_together() -> None:
    policy = RetryPolicy(initial=8.0)
    waits = {policy.delay(failures=1, draw=draw, retry_after=30.0) for draw in (0.0, 0.5, 1.0)}
    assert waits == {30.0, 34.0, 38.0}


@pytest.mark.parametrize("failure", RETRYABLE)
def test_what_may_work_next_time_is_tried_again(failure: FailureClass) -> None:
    assert RetryPolicy().tries_again(failure, attempts=1, elapsed=0.0)


@pytest.mark.parametrize("failure", [FailureClass.REJECTED, FailureClass.FATAL, None])
def test_what_cannot_work_is_not_tried_again(failure: FailureClass | None) -> None:
    assert not RetryPolicy().tries_again(failure, attempts=1, elapsed=0.0)


@pytest.mark.parametrize(("on_ambiguous", "allowed"), [("fail", 1), ("once", 2), ("retry", 4)])
def test_requests_in_doubt_of_earlier_runs_leave_room_for_so_many_in_all(
    on_ambiguous: Literal["once", "retry", "fail"], allowed: int
) -> None:
    policy = RetryPolicy(on_ambiguous=on_ambiguous, max_attempts=4)
    assert [policy.may_send_again(ambiguous=count) for count in range(6)] == [count < allowed for count in range(6)]


def test_attempts_are_bounded_but_refusals_cost_nothing() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert policy.tries_again(FailureClass.AMBIGUOUS, attempts=2, elapsed=0.0)
    assert not policy.tries_again(FailureClass.AMBIGUOUS, attempts=3, elapsed=0.0)
    assert policy.tries_again(FailureClass.REFUSED, attempts=3, elapsed=0.0)


@pytest.mark.parametrize("failure", RETRYABLE)
def test_elapsed_time_bounds_refusals_as_well(failure: FailureClass) -> None:
    policy = RetryPolicy(max_elapsed=60.0)
    assert policy.tries_again(failure, attempts=1, elapsed=59.9)
    assert not policy.tries_again(failure, attempts=1, elapsed=60.0)


@pytest.mark.parametrize("word", [None, True, False])
@given(failure=st.sampled_from(FailureClass) | st.none(), attempts=st.integers(1, 9), elapsed=seconds)
def test_no_word_of_the_gateway_lifts_a_bound(
    *, failure: FailureClass | None, attempts: int, elapsed: float, word: bool | None
) -> None:
    policy = RetryPolicy(max_attempts=5, max_elapsed=100.0)
    if policy.tries_again(failure, attempts=attempts, elapsed=elapsed, should_retry=word):
        assert elapsed < 100.0
        assert attempts < 5 or failure is FailureClass.REFUSED
        assert word is not False
        assert failure not in {None, FailureClass.FATAL}


def test_the_gateway_s_word_overrides_the_class_of_a_failure() -> None:
    policy = RetryPolicy()
    assert policy.tries_again(FailureClass.REJECTED, attempts=1, elapsed=0.0, should_retry=True)
    assert not policy.tries_again(FailureClass.AMBIGUOUS, attempts=1, elapsed=0.0, should_retry=False)
    assert not policy.tries_again(FailureClass.FATAL, attempts=1, elapsed=0.0, should_retry=True)


@pytest.mark.parametrize("field", [{"max_attempts": 0}, {"max_elapsed": -1.0}, {"initial": -0.1}, {"longest": -1.0}])
def test_a_policy_that_makes_no_sense_is_refused(field: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(field))):
        RetryPolicy(**field)  # type: ignore[arg-type] # the point of the test
