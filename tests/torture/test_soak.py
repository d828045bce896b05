from __future__ import annotations

from collections import Counter

import pytest

from tests.torture.held import Held, grown
from tests.torture.soak import FATAL, Report, Soak, rates, run

SOME = {"memory KiB": 50_000, "SQLite KiB": 2000, "descriptors": 20, "tasks": 3}


def report(**changes: int) -> Report:
    held = {name: changes.get(name, count) for name, count in SOME.items()}
    soak = Soak(statuses=Counter(succeeded=changes.get("outcomes", 10)), kept=10, doubted=2)
    return Report(soak, Held(SOME), Held(held), {"billed": changes.get("billed", 11)}, seconds=1.0)


def test_a_run_that_keeps_its_promises_has_no_problems() -> None:
    assert report().problems(10) == []
    assert report(**{"memory KiB": 52_500, "descriptors": 21, "SQLite KiB": 5120}).problems(10) == []


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"outcomes": 9}, "9 outcomes of 10 jobs"),
        ({"billed": 13}, "13 images were billed; 10 were kept and 2 are in doubt"),
        ({"billed": 9}, "9 images were billed; 10 were kept and 2 are in doubt"),
        ({"memory KiB": 52_501}, "memory KiB grew from 50,000 to 52,501"),
        ({"SQLite KiB": 5121}, "SQLite KiB grew from 2,000 to 5,121"),
        ({"tasks": 4}, "tasks grew from 3 to 4"),
    ],
)
def test_a_broken_promise_is_named(changes: dict[str, int], problem: str) -> None:
    assert report(**changes).problems(10) == [problem]


def test_a_figure_that_shrinks_is_not_a_problem() -> None:
    assert list(grown(Held(SOME), Held(dict.fromkeys(SOME, 1)))) == []


def test_a_soak_has_faults_of_every_kind_and_the_requested_share_of_them() -> None:
    shares = rates(0.05)
    assert sum(shares.values()) == pytest.approx(0.05)
    assert min(shares.values()) > 0
    assert set(FATAL) < set(shares)
    assert "odd-wrapping" in shares


@pytest.mark.slow
@pytest.mark.timeout(300)  # seconds on a quiet machine; a crowded one takes its time
def test_a_short_soak_keeps_its_promises() -> None:
    # Too short for memory to have settled, so that alone is not asked of it.
    short = run(1000, 0.05, first=500, limit_s=200)
    assert [problem for problem in short.problems(1000) if not problem.startswith("memory")] == []
    assert short.soak.stops
