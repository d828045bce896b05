from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.budget import Budget, Cost

costs = st.builds(
    lambda images, cents: Cost(images, images * cents / 100), st.integers(0, 4), st.sampled_from([0, 2, 4])
)


@given(
    st.none() | st.integers(0, 30),
    st.none() | st.integers(0, 120),
    st.lists(st.tuples(costs, st.booleans()), max_size=60),
)
def test_a_cap_is_a_cap_through_any_reservations_and_releases(
    max_images: int | None, max_cents: int | None, asked: list[tuple[Cost, bool]]
) -> None:
    budget = Budget(max_images=max_images, max_usd=None if max_cents is None else max_cents / 100)
    images, cents = 0, 0
    for cost, billed in asked:
        price = round(cost.usd * 100)
        fits = (max_images is None or images + cost.images <= max_images) and (
            max_cents is None or cents + price <= max_cents
        )
        assert budget.reserve(cost) is fits
        if fits and billed:
            images, cents = images + cost.images, cents + price
        elif fits:
            budget.release(cost)
    assert budget.images == images
    assert round(budget.usd * 100) == cents


def test_a_cap_in_money_takes_exactly_what_it_pays_for() -> None:
    budget = Budget(max_usd=40.0)
    assert sum(budget.reserve(Cost(1, 0.04)) for _ in range(1001)) == 1000


def test_what_earlier_runs_spent_counts() -> None:
    budget = Budget(max_images=10, spent=Cost(8, 0.32))
    assert not budget.reserve(Cost(4, 0.16))
    assert budget.reserve(Cost(2, 0.08))


def test_a_refused_reservation_takes_nothing() -> None:
    budget = Budget(max_images=4, max_usd=0.05)
    assert not budget.reserve(Cost(2, 0.08))
    assert (budget.images, budget.usd) == (0, 0.0)


def test_what_is_in_flight_counts_until_it_is_given_back() -> None:
    budget = Budget(max_images=4)
    assert budget.reserve(Cost(4, 0.16))
    assert not budget.reserve(Cost(1, 0.04))
    budget.release(Cost(4, 0.16))
    assert budget.reserve(Cost(1, 0.04))


def test_without_caps_everything_fits() -> None:
    assert Budget().reserve(Cost(10**9, 1e9))
