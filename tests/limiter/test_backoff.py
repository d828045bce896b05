from __future__ import annotations

from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import FailureClass
from imagen_async.limiter.backoff import RetryPolicy

draws = st.floats(0, 1)
seconds = st.floats(0, 1e6)
RETRYABLE = [FailureClass.NEVER_SENT, FailureClass.REFUSED, FailureClass.AMBIGUOUS]


@given(st.integers(1, 10**6), draws, seconds, seconds)
def test_a_wait_is_never_longer_than_the_longest(failures: int, draw: float, initial: float, longest: float) -> None:
    assert 0.0 <= RetryPolicy(initial=initial, longest=longest).delay(failures=failures, draw=draw) <= longest


def test_the_ceiling_doubles_with_each_failure_up_to_the_longest() -> None:
    policy = RetryPolicy(initial=0.5, longest=10.0)
    assert [policy.delay(failures=n, draw=1.0) for n in range(1, 8)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_jitter_is_full_from_nothing_to_the_ceiling() -> None:
    policy = RetryPolicy(initial=8.0)
    assert [policy.delay(failures=1, draw=draw) for draw in (0.0, 0.25, 0.5, 1.0)] == [0, 2, 4, 8]


@pytest.mark.parametrize("failure", RETRYABLE)
def test_a_failure_that_may_pass_is_retried(failure: FailureClass) -> None:
    assert RetryPolicy().tries_again(failure, attempts=1, elapsed=0.0)


@pytest.mark.parametrize("failure", [FailureClass.REJECTED, FailureClass.FATAL, None])
def test_a_failure_that_cannot_pass_is_not_retried(failure: FailureClass | None) -> None:
    assert not RetryPolicy().tries_again(failure, attempts=1, elapsed=0.0)


@pytest.mark.parametrize(("on_ambiguous", "allowed"), [("fail", 1), ("once", 2), ("retry", 4)])
def test_requests_in_doubt_of_earlier_runs_leave_room_for_so_many_in_all(
    on_ambiguous: Literal["once", "retry", "fail"], allowed: int
) -> None:
    policy = RetryPolicy(on_ambiguous=on_ambiguous, max_attempts=4)
    assert [policy.may_send_again(ambiguous=count) for count in range(6)] == [count < allowed for count in range(6)]


def test_attempts_are_bounded_and_refusals_do_not_count() -> None:
    policy = RetryPolicy(max_attempts=3)
    assert policy.tries_again(FailureClass.AMBIGUOUS, attempts=2, elapsed=0.0)
    assert not policy.tries_again(FailureClass.AMBIGUOUS, attempts=3, elapsed=0.0)
    assert policy.tries_again(FailureClass.REFUSED, attempts=3, elapsed=0.0)


@pytest.mark.parametrize("failure", RETRYABLE)
def test_elapsed_time_bounds_refusals_as_well(failure: FailureClass) -> None:
    policy = RetryPolicy(max_elapsed=60.0)
    assert policy.tries_again(failure, attempts=1, elapsed=59.9)
    assert not policy.tries_again(failure, attempts=1, elapsed=60.0)


@pytest.mark.parametrize("header", [None, True, False])
@given(failure=st.sampled_from(FailureClass) | st.none(), attempts=st.integers(1, 9), elapsed=seconds)
def test_no_x_should_retry_header_lifts_a_bound(
    *, failure: FailureClass | None, attempts: int, elapsed: float, header: bool | None
) -> None:
    policy = RetryPolicy(max_attempts=5, max_elapsed=100.0)
    if policy.tries_again(failure, attempts=attempts, elapsed=elapsed, should_retry=header):
        assert elapsed < 100.0
        assert attempts < 5 or failure is FailureClass.REFUSED
        assert header is not False
        assert failure not in {None, FailureClass.FATAL}


def test_the_x_should_retry_header_overrides_the_class_of_a_failure() -> None:
    policy = RetryPolicy()
    assert policy.tries_again(FailureClass.REJECTED, attempts=1, elapsed=0.0, should_retry=True)
    assert not policy.tries_again(FailureClass.AMBIGUOUS, attempts=1, elapsed=0.0, should_retry=False)
    assert not policy.tries_again(FailureClass.FATAL, attempts=1, elapsed=0.0, should_retry=True)
