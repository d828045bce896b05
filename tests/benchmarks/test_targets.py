from __future__ import annotations

import pytest

from benchmarks.table import CPU, LAG_P99, MEMORY, RATE
from benchmarks.targets import Target, at_least, at_most, judged, verdict
from tests.benchmarks.runs import ran


def test_a_line_has_the_result_and_the_target() -> None:
    runs = {"ours": [ran(seconds=0.2)], "openai-python": [ran(seconds=1.3)], "floor": [ran(cpu_seconds=0.1)]}
    targets = [
        Target(RATE, at_least(10), beside="openai-python"),
        Target(CPU, at_most(1.8), beside="floor"),
        Target(LAG_P99, at_most(10)),
        Target(MEMORY),
    ]
    assert verdict(targets, runs, {}) == [
        "images/s ÷ openai-python: 6.50 (≥ 10) – missed",
        "CPU ms/image ÷ floor: 2.00 (≤ 1.8) – missed",
        "loop lag p99 ms: 8.0 (≤ 10) – reached",
        "peak memory MB: 20.0",
    ]


def test_a_figure_of_another_contender_names_it() -> None:
    runs = {"ours-batch": [ran(seconds=2.0)], "ours-files": [ran()]}
    target = Target(RATE, at_least(0.5), who="ours-batch", beside="ours-files")
    assert verdict([target], runs, {}) == ["images/s of ours-batch ÷ ours-files: 0.50 (≥ 0.5) – reached"]


def test_a_contender_without_figures_is_named_with_the_reason() -> None:
    targets = [Target(RATE, at_least(10), beside="openai-python")]
    runs = {"ours": [ran()], "openai-python": []}
    assert verdict(targets, runs, {"openai-python": "not installed"}) == [
        "images/s ÷ openai-python: not measured (≥ 10), openai-python: not installed"
    ]


def test_a_contender_that_was_not_chosen_is_not_named() -> None:
    targets = [Target(RATE, at_least(10), beside="openai-python"), Target(RATE)]
    assert verdict(targets, {"ours": [ran()]}, {}) == ["images/s: 100.0"]


@pytest.mark.parametrize(
    ("value", "limit", "word"),
    [
        (10.0, at_least(10), "reached"),
        (9.996, at_least(10), "missed"),
        (10.0, at_most(10), "reached"),
        (10.004, at_most(10), "missed"),
    ],
)
def test_the_figure_is_judged_before_it_is_rounded(value: float, limit: object, word: str) -> None:
    assert isinstance(limit, type(at_least(1)))
    assert judged("it", value, limit) == f"it: 10.00 ({limit}) – {word}"
