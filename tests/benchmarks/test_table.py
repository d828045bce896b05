from __future__ import annotations

import pytest

from benchmarks.table import LAG_MAX, LAG_P99, MEMORY, RATE, as_markdown, as_text, rows
from tests.benchmarks.runs import ran


def test_a_cell_is_the_median_and_its_ratio_to_the_yardstick() -> None:
    runs = {"ours": [ran(seconds=s) for s in (0.1, 0.25, 5.0)], "openai-python": [ran()]}
    assert rows(runs, {}, [RATE]) == [
        ["contender", "images/s"],
        ["ours", "400.0 (4.00×)"],
        ["openai-python", "100.0 (1.00×)"],
    ]


def test_without_the_yardstick_there_is_no_ratio() -> None:
    runs = {"ours": [ran()], "openai-python": [ran()]}
    assert rows(runs, {"openai-python": "not installed"}, [MEMORY, RATE])[1:] == [
        ["ours", "20", "100.0"],
        ["openai-python", "not installed", ""],
    ]


def test_a_loop_that_never_ran_has_no_lag() -> None:
    runs = {"floor": [ran(beats=0, lag_p99=0.0)]}
    assert rows(runs, {}, [LAG_P99, LAG_MAX])[1] == ["floor", "–", "–"]


def test_a_reason_does_not_widen_the_columns() -> None:
    table = [["contender", "a", "b"], ["ours", "1", "2"], ["x", "a very long reason", ""]]
    assert as_text(table) == "contender  a  b\nours       1  2\nx          a very long reason"


def test_markdown_aligns_figures_to_the_right() -> None:
    assert as_markdown([["contender", "a|b"], ["ours", "1"]]).splitlines() == [
        "| contender | a/b |",
        "| --- | ---: |",
        "| ours | 1 |",
    ]


@pytest.mark.parametrize(("column", "name"), [(LAG_P99, "loop lag p99 ms"), (RATE, "images/s")])
def test_a_column_title_is_clear_on_its_own(column: object, name: str) -> None:
    assert getattr(column, "name", None) == name
