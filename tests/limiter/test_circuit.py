from __future__ import annotations

import math

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imagen_async.limiter.circuit import Circuit, RetryQuota


def pay(circuit: Circuit, *, now: float = 0.0, timed_out: bool = False) -> int:
    return circuit.pay(timed_out=timed_out, now=now)


def opened(*, now: float = 0.0, **quota: int) -> Circuit:
    circuit = Circuit(RetryQuota(**quota))
    while pay(circuit, now=now):
        pass
    return circuit


def test_single_failures_are_always_retried() -> None:
    circuit = Circuit()
    for second in range(1000):
        paid = pay(circuit, now=second)
        assert paid == 5
        circuit.responded(paid=paid)
    assert not circuit.open


def test_a_retry_after_a_timeout_costs_twice_as_much() -> None:
    circuit = Circuit()
    assert (pay(circuit), pay(circuit, timed_out=True), circuit.tokens) == (5, 10, 485)


def test_retries_and_probes_of_an_outage_stay_within_the_quota() -> None:
    circuit, now, probes = opened(), 0.0, 0
    retries = (500 - circuit.tokens) // 5
    while not circuit.lost(now=now):
        now += circuit.wait(now=now)
        probes += circuit.sent()
        circuit.failed(probe=True, among=64, now=now)
    assert (retries, probes) == (92, 8)
    assert 5 * (retries + probes) <= 500


def test_probes_wait_twice_as_long_each_time_up_to_half_a_minute() -> None:
    circuit, now, waits = opened(), 0.0, []
    for _ in range(8):
        waits.append(circuit.wait(now=now))
        now += waits[-1]
        circuit.sent()
        circuit.failed(probe=True, among=64, now=now)
    assert waits == [1, 2, 4, 8, 16, 30, 30, 30]


def test_one_probe_at_a_time() -> None:
    circuit = opened()
    assert circuit.wait(now=1.0) == 0
    assert circuit.sent()
    assert circuit.wait(now=1000.0) == math.inf


def test_a_response_closes_the_circuit_and_leaves_room_for_a_few_failures() -> None:
    circuit = opened()
    circuit.sent()
    circuit.responded(paid=0)
    assert not circuit.open
    assert circuit.wait(now=0.0) == 0
    assert [pay(circuit) for _ in range(9)] == [5] * 8 + [0]


def test_a_cancelled_probe_lets_the_next_one_leave() -> None:
    circuit = opened()
    circuit.sent()
    circuit.cancelled(probe=True)
    assert circuit.wait(now=1.0) == 0


def test_a_failure_of_an_earlier_request_is_not_the_probe_s() -> None:
    circuit = opened()
    circuit.sent()
    circuit.failed(probe=False, among=64, now=0.5)
    assert circuit.wait(now=5.0) == math.inf


def test_failures_in_a_row_open_the_circuit_even_without_retries() -> None:
    circuit = Circuit()
    for second in range(49):
        circuit.failed(probe=False, among=64, now=second)
        assert not circuit.open
    circuit.failed(probe=False, among=64, now=49.0)
    assert (circuit.open, circuit.wait(now=49.0), circuit.tokens) == (True, 1.0, 40)
    circuit.failed(probe=False, among=64, now=49.5)
    assert circuit.wait(now=49.5) == 0.5


@pytest.mark.parametrize(("among", "failures"), [(1, 10), (5, 10), (8, 16), (16, 32), (32, 50), (64, 50)])
def test_where_few_are_in_flight_fewer_failures_in_a_row_are_an_outage(among: int, failures: int) -> None:
    circuit, count = Circuit(), 0
    while not circuit.open:
        circuit.failed(probe=False, among=among, now=0.0)
        count += 1
    assert count == failures


def test_failures_with_responses_between_them_are_not_an_outage() -> None:
    circuit = Circuit()
    for second in range(1000):
        circuit.failed(probe=False, among=64, now=second)
        if second % 90 == 0:
            circuit.responded()
    assert not circuit.open


def test_with_an_empty_quota_waiting_is_pointless_until_the_next_probe_is_due() -> None:
    circuit = opened(capacity=5, reserve=5)
    assert not circuit.lost(now=0.0)
    circuit.sent()
    assert not circuit.lost(now=1.0)
    circuit.failed(probe=True, among=64, now=1.0)
    assert circuit.lost(now=2.9)
    assert not circuit.lost(now=3.0)


class AnyOutage(RuleBasedStateMachine):
    """Requests leave when the circuit allows, and end with any result."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.spent = 0
        self.in_flight: list[tuple[bool, int]] = []

    @initialize(capacity=st.integers(1, 100), reserve=st.integers(0, 60))
    def begin(self, capacity: int, reserve: int) -> None:
        self.circuit = Circuit(RetryQuota(capacity=capacity, reserve=reserve))

    @rule(seconds=st.floats(0, 100))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: self.circuit.wait(now=self.now) == 0)
    @rule(retry=st.booleans(), timed_out=st.booleans())
    def one_leaves(self, *, retry: bool, timed_out: bool) -> None:
        paid = pay(self.circuit, now=self.now, timed_out=timed_out) if retry else 0
        if not self.circuit.wait(now=self.now):
            self.in_flight.append((self.circuit.sent(), paid))

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0, 9), how=st.sampled_from(["responded", "failed", "cancelled"]))
    def one_ends(self, which: int, how: str) -> None:
        probe, paid = self.in_flight.pop(which % len(self.in_flight))
        if how == "responded":
            self.circuit.responded(paid=paid)
            assert not self.circuit.open
        elif how == "failed":
            self.circuit.failed(probe=probe, among=64, now=self.now)
        else:
            self.circuit.cancelled(probe=probe)

    @invariant()
    def tokens_stay_between_zero_and_the_capacity(self) -> None:
        assert 0 <= self.circuit.tokens <= self.circuit.quota.capacity

    @invariant()
    def an_unlimited_wait_is_for_a_probe(self) -> None:
        wait = self.circuit.wait(now=self.now)
        assert wait <= 30 or (wait == math.inf and any(probe for probe, _ in self.in_flight))


TestAnyOutage = AnyOutage.TestCase
