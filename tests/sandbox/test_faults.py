"""Which request meets a fault: shares, seeds and sightings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.sandbox import faults
from imagen_async.sandbox.faults import FAULTS, WRAPPINGS, FaultPlan

if TYPE_CHECKING:
    import random

BODIES = [str(number).encode() for number in range(4000)]


def names(plan: FaultPlan, bodies: list[bytes]) -> dict[bytes, str | None]:
    draws = {body: plan.draw(body).fault for body in bodies}
    return {body: fault.name if fault else None for body, fault in draws.items()}


def test_shares_are_kept_over_many_requests() -> None:
    met = list(names(FaultPlan({"500": 0.3, "429": 0.1}), BODIES).values())
    assert met.count("500") / len(met) == pytest.approx(0.3, abs=0.03)
    assert met.count("429") / len(met) == pytest.approx(0.1, abs=0.03)
    assert met.count(None) / len(met) == pytest.approx(0.6, abs=0.03)


def test_a_share_of_one_is_every_request_and_no_shares_are_none() -> None:
    assert set(names(FaultPlan({"504": 1.0}), BODIES[:500]).values()) == {"504"}
    assert set(names(FaultPlan({}), BODIES[:500]).values()) == {None}


@given(st.randoms(use_true_random=False), st.integers())
def test_draws_do_not_depend_on_the_order_of_arrival(shuffler: random.Random, seed: int) -> None:
    rates = {"500": 0.4, "stall": 0.2}
    bodies = BODIES[:50]
    shuffled = [*bodies]
    shuffler.shuffle(shuffled)
    assert names(FaultPlan(rates, seed=seed), bodies) == names(FaultPlan(rates, seed=seed), shuffled)


def test_another_seed_draws_other_faults() -> None:
    rates = {"500": 0.5}
    assert names(FaultPlan(rates, seed=1), BODIES[:99]) != names(FaultPlan(rates, seed=2), BODIES[:99])


def test_a_body_seen_again_is_drawn_anew() -> None:
    plan = FaultPlan({"500": 0.5})
    assert {plan.draw(b"same").fault is None for _ in range(99)} == {True, False}


def test_with_one_fault_per_body_everything_fails_once_and_then_succeeds() -> None:
    plan = FaultPlan({"500": 1.0}, per_body=1)
    first, second = (names(plan, BODIES[:9]) for _ in range(2))
    assert set(first.values()) == {"500"}
    assert set(second.values()) == {None}


def test_odd_wrapping_draws_every_variant() -> None:
    met = set(names(FaultPlan({"odd-wrapping": 1.0}), BODIES[:500]).values())
    assert met == {f"odd-wrapping:{name}" for name in WRAPPINGS}


def test_memory_of_bodies_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(faults, "BODIES_REMEMBERED", 10)
    plan = FaultPlan({"500": 1.0}, per_body=1)
    names(plan, BODIES[:100])
    assert len(plan._seen) == 10
    assert plan.draw(BODIES[99]).fault is None, "the latest are the ones remembered"


def test_every_fault_is_named_as_its_key_and_described() -> None:
    assert all(name == fault.name and fault.about for name, fault in FAULTS.items())
    assert {fault.billed for fault in FAULTS.values()} == {"none", "asked", "sent"}
