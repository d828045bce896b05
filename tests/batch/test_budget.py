from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.budget import Budget, Cost
from imagen_async.exceptions import LimitReachedError

costs = st.builds(
    lambda images, cents: Cost(images, images * cents / 100), st.integers(0, 4), st.sampled_from([0, 2, 4])
)


def reserved(budget: Budget, cost: Cost) -> bool:
    """Reserve `cost`, and return whether the caps allowed it."""
    try:
        budget.reserve(cost)
    except LimitReachedError:
        return False
    return True


@given(
    st.none() | st.integers(0, 30),
    st.none() | st.integers(0, 120),
    st.lists(st.tuples(costs, st.booleans()), max_size=60),
)
def test_no_sequence_of_reservations_and_releases_exceeds_a_cap(
    max_images: int | None, max_cents: int | None, asked: list[tuple[Cost, bool]]
) -> None:
    budget = Budget(max_images=max_images, max_usd=None if max_cents is None else max_cents / 100)
    images, cents = 0, 0
    for cost, billed in asked:
        price = round(cost.usd * 100)
        fits = (max_images is None or images + cost.images <= max_images) and (
            max_cents is None or cents + price <= max_cents
        )
        assert reserved(budget, cost) is fits
        if fits and billed:
            images, cents = images + cost.images, cents + price
        elif fits:
            budget.release(cost)
    assert budget.images == images
    assert round(budget.usd * 100) == cents


def test_a_cap_in_money_is_used_exactly() -> None:
    budget = Budget(max_usd=40.0)
    assert sum(reserved(budget, Cost(1, 0.04)) for _ in range(1001)) == 1000


def test_earlier_costs_count() -> None:
    budget = Budget(max_images=10)
    budget.spend(Cost(8, 0.32))
    assert not reserved(budget, Cost(4, 0.16))
    assert reserved(budget, Cost(2, 0.08))


def test_a_refused_reservation_counts_nothing() -> None:
    budget = Budget(max_images=4, max_usd=0.05)
    assert not reserved(budget, Cost(2, 0.08))
    assert (budget.images, budget.usd) == (0, 0.0)


def test_a_reservation_counts_until_it_is_released() -> None:
    budget = Budget(max_images=4)
    assert reserved(budget, Cost(4, 0.16))
    assert not reserved(budget, Cost(1, 0.04))
    budget.release(Cost(4, 0.16))
    assert reserved(budget, Cost(1, 0.04))


def test_without_caps_everything_fits() -> None:
    assert not Budget().capped
    assert reserved(Budget(), Cost(10**9, 1e9))
