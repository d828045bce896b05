from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from benchmarks.plots import charts, draw
from tests.benchmarks.runs import ran

if TYPE_CHECKING:
    from pathlib import Path


def scene(axis: str, at: float, *, absent: dict[str, str] | None = None, **runs: list[float]) -> dict[str, Any]:
    """A kept scene: by contender, the seconds of its runs."""
    kept = {name: [attrs.asdict(ran(seconds=each)) for each in seconds] for name, seconds in runs.items()}
    return {"axis": axis, "at": at, "runs": kept, "absent": absent or {}}


def test_a_curve_goes_through_the_medians_from_left_to_right() -> None:
    scenes = [scene("n", 4, ours=[1.0, 0.5, 0.1]), scene("n", 1, ours=[1.0])]
    (chart,) = charts({"scenes": scenes})
    assert (chart.file, chart.linear) == ("growth-n.svg", True)
    assert chart.panels["images/s"] == {"ours": [(1.0, 100.0), (4.0, 200.0)]}


def test_a_contender_without_figures_has_no_point() -> None:
    scenes = [
        scene("size", 1, ours=[1.0], peer=[1.0]),
        scene("size", 2, ours=[1.0], peer=[1.0], absent={"peer": "stopped after 300 s"}),
        scene("size", 3, ours=[1.0], peer=[]),
    ]
    (chart,) = charts({"scenes": scenes})
    assert [len(curve) for curve in chart.panels["images/s"].values()] == [3, 1]


def test_a_chart_holds_the_points_of_its_own_axis() -> None:
    scenes = [scene("size", 1, ours=[1.0]), scene("in flight", 8, ours=[1.0])]
    found = {chart.file: chart.panels["images/s"]["ours"] for chart in charts({"scenes": scenes})}
    assert found == {"growth-size.svg": [(1.0, 100.0)], "growth-in-flight.svg": [(8.0, 100.0)]}


def test_curves_over_rows_come_from_a_part_of_their_own() -> None:
    found = charts({"scenes": [scene("n", 1, ours=[1.0])]}, {"scenes": [scene("rows", 1_000, ours=[1.0])]})
    assert [chart.file for chart in found] == ["growth-n.svg", "growth-rows.svg"]


def test_one_long_batch_is_drawn_from_the_figures_of_its_own_benchmark() -> None:
    samples = [
        {"jobs": 1_000, "seconds": 2.0, "cpu_seconds": 1.0, "peak_rss": 90_000_000},
        {"jobs": 2_000, "seconds": 6.0, "cpu_seconds": 3.0, "peak_rss": 95_000_000},
    ]
    (chart,) = charts(None, scale={"batch": {"samples": samples}})
    assert chart.panels == {
        "jobs/s": {"ours": [(1_000.0, 500.0), (2_000.0, 250.0)]},
        "CPU ms/job": {"ours": [(1_000.0, 1.0), (2_000.0, 2.0)]},
        "resident memory MB": {"ours": [(1_000.0, 90.0), (2_000.0, 95.0)]},
    }


def test_without_kept_figures_nothing_is_drawn() -> None:
    assert charts(None) == []
    assert charts(None, None, {"batch": None}) == []


@pytest.mark.peers
def test_the_same_figures_are_the_same_file(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (chart,) = charts({"scenes": [scene("size", at, ours=[1.0]) for at in (10_000, 1_000_000)]})
    once = draw(chart, tmp_path / "once").read_bytes()
    assert draw(chart, tmp_path / "again").read_bytes() == once
    assert b"<dc:date>" not in once
