from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagen_async.batch import Progress, Report, Summary, open_source
from imagen_async.batch.plan import Plan
from imagen_async.catalog import CATALOG, Model
from imagen_async.outcome import Status

if TYPE_CHECKING:
    from pathlib import Path

FAST = "imagen-3.0-fast-generate-001"
SLOW = "imagen-3.0-generate-001"


def report(**fields: Any) -> Report:
    known: dict[str, Any] = {
        "source": "prompts.csv",
        "rows": 12,
        "requests": 15,
        "images": 40,
        "bad": 2,
        "problems": (),
        "notes": {"a note": 3},
        "models": {SLOW: 30, FAST: 10},
    }
    return Report(**(known | fields))


def test_a_plan_counts_rows_jobs_images_and_money() -> None:
    made = Plan.of(report())
    assert (made.rows, made.jobs, made.images, made.cost_usd) == (10, 15, 40, 1.4)
    assert made.notes == {"a note": 3}


def test_a_plan_knows_its_time_only_at_a_rate() -> None:
    assert Plan.of(report()).seconds is None
    assert Plan.of(report(), rpm=20).seconds == 14 * 3.0
    assert Plan.of(report(requests=0, images=0, models={}), rpm=20).seconds == 0.0


@pytest.mark.parametrize("models", [{SLOW: 30, "mine": 10}, {SLOW: 30}])
def test_a_plan_does_not_guess_a_price(models: dict[str, int]) -> None:
    """A model without a price, and models beyond those that a report keeps."""
    assert Plan.of(report(models=models)).cost_usd is None


def test_a_plan_takes_the_prices_of_the_users_catalog() -> None:
    mine = CATALOG.extended(Model(id="mine", price_usd=0.5))
    assert Plan.of(report(models={SLOW: 30, "mine": 10}), catalog=mine).cost_usd == 6.2


def test_a_plan_of_nothing_costs_nothing() -> None:
    made = Plan.of(report(rows=0, bad=0, requests=0, images=0, models={}))
    assert (made.rows, made.jobs, made.images, made.cost_usd) == (0, 0, 0, 0.0)


def test_a_plan_of_a_real_file(tmp_path: Path) -> None:
    table = tmp_path / "prompts.csv"
    table.write_text(f"prompt,n,model\nA red fox,10,\nAn owl,,{FAST}\nbad,0,\n")
    made = Plan.of(open_source(table).check(), rpm=60)
    assert (made.rows, made.jobs, made.images, made.cost_usd, made.seconds) == (2, 4, 11, 0.42, 3.0)


@pytest.mark.parametrize("status", list(Status))
def test_every_status_is_counted_under_its_own_name(status: Status) -> None:
    progress = Progress()
    progress.count(status)
    assert progress.done == 1
    summed = Summary.of(progress, elapsed_s=1.23456)
    assert getattr(summed, status.value) == summed.jobs == 1
    assert summed.ok is (status in {Status.SUCCEEDED, Status.SKIPPED})
    assert summed.elapsed_s == 1.235


def test_a_summary_with_invalid_rows_is_not_ok() -> None:
    assert Summary.of(Progress(), elapsed_s=0.0).ok
    assert not Summary.of(Progress(invalid=1), elapsed_s=0.0).ok


def test_summary_figures_have_a_fixed_order() -> None:
    figures = "jobs succeeded partial filtered failed in_doubt skipped images bytes attempts cost_usd elapsed_s"
    made = Summary.of(Progress(doubts=3, doubtful_usd=3 * 0.1), elapsed_s=0.0).as_dict()
    assert list(made) == [*figures.split(), "doubts", "doubtful_usd"]
    assert (made["doubts"], made["doubtful_usd"], made["cost_usd"]) == (3, 0.3, 0.0)
