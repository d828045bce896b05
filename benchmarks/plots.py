"""Curves of growth as SVG, drawn from kept figures: ``python -m benchmarks plots`` measures nothing.

The same figures give the same bytes. What is to be drawn is computed by `charts`, which is pure; matplotlib
is needed only to draw it.
"""

from __future__ import annotations

import json
import re
from statistics import median
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from benchmarks.contender import Measured
from benchmarks.processes import HOME
from benchmarks.table import CPU, MEMORY, RATE, Column

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ASSETS", "Chart", "charts", "draw", "read"]

ASSETS = HOME / "docs" / "assets"
PANELS = (RATE, CPU, MEMORY)
AXES = {
    "in flight": ("growth-in-flight.svg", "requests in flight"),
    "size": ("growth-size.svg", "bytes of an image"),
    "n": ("growth-n.svg", "images a request"),
    "rows": ("growth-rows.svg", "rows of a run"),
}
MEMORY_NOW = "resident memory MB"
COLOURS = {
    "ours": "#00796b",
    "ours-batch-no-fsync": "#26a69a",
    "openai-python": "#c62828",
    "google-genai": "#1565c0",
    "litellm": "#6a1b9a",
    "aiohttp-json": "#ef6c00",
}
OTHER_COLOUR = "#616161"

MOST_TICKS = 6

_ASIDE = re.compile(r"<!DOCTYPE[^>]*>|<metadata>.*?</metadata>", re.DOTALL)
"""What is no part of the drawing, and names other hosts."""

Curve: TypeAlias = list[tuple[float, float]]


@attrs.frozen(kw_only=True)
class Chart:
    """One file: panels side by side over the same axis.

    Attributes:
        file: Its name.
        axis: What stands below it.
        panels: By the heading of each, the curve of each contender.
        linear: Whether both axes are linear; else both are logarithmic.
    """

    file: str
    axis: str
    panels: dict[str, dict[str, Curve]]
    linear: bool = False


def charts(
    growth: dict[str, Any] | None, rows: dict[str, Any] | None = None, scale: dict[str, Any] | None = None
) -> list[Chart]:
    """Say what there is to draw.

    Args:
        growth: What `python -m benchmarks growth` has kept.
        rows: What `python -m benchmarks rows` has kept.
        scale: What ``python -m benchmarks.scale`` has kept: of its batch, the samples.
    """
    found = _grown([scene for kept in (growth, rows) if kept is not None for scene in kept["scenes"]])
    samples = ((scale or {}).get("batch") or {}).get("samples") or []
    return [*found, _scaled(samples)] if samples else found


def _grown(scenes: list[dict[str, Any]]) -> list[Chart]:
    """Make a chart of each axis; the scene that all axes share lies on each of them."""
    return [
        Chart(file=file, axis=text, panels=_panels(axis, scenes), linear=axis == "n")
        for axis, (file, text) in AXES.items()
        if any(scene["axis"] == axis for scene in scenes)
    ]


def _panels(axis: str, scenes: list[dict[str, Any]]) -> dict[str, dict[str, Curve]]:
    panels: dict[str, dict[str, Curve]] = {column.heading: {} for column in PANELS}
    for scene in sorted((scene for scene in scenes if scene["axis"] == axis), key=lambda scene: float(scene["at"])):
        for name, runs in scene["runs"].items():
            if runs and name not in scene["absent"]:
                for column in PANELS:
                    point = (float(scene["at"]), _figure(column, runs))
                    panels[column.heading].setdefault(name, []).append(point)
    return panels


def _figure(column: Column, runs: list[dict[str, Any]]) -> float:
    return median(column.of(Measured(**run)) for run in runs)


def _scaled(samples: list[dict[str, Any]]) -> Chart:
    """Make the chart of one long batch: how fast it was between two samples, and what it took until then."""
    before = [{"jobs": 0, "seconds": 0.0, "cpu_seconds": 0.0}, *samples]
    panels: dict[str, dict[str, Curve]] = {name: {"ours": []} for name in ("jobs/s", "CPU ms/job", MEMORY_NOW)}
    for last, this in zip(before, samples, strict=False):
        jobs, seconds, cpu = (this[name] - last[name] for name in ("jobs", "seconds", "cpu_seconds"))
        for heading, value in zip(panels, (jobs / seconds, 1e3 * cpu / jobs, this["peak_rss"] / 1e6), strict=True):
            panels[heading]["ours"].append((float(this["jobs"]), value))
    return Chart(file="growth-one-batch.svg", axis="rows done", panels=panels, linear=True)


def draw(chart: Chart, folder: Path = ASSETS) -> Path:
    """Draw one file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    import matplotlib as mpl  # noqa: PLC0415 - measuring needs no matplotlib

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - optional, and after the backend is chosen

    settings = {"svg.hashsalt": "imagen-async", "svg.fonttype": "none", "font.size": 9, "path.simplify": True}
    with mpl.rc_context(settings):
        figure, panels = plt.subplots(1, len(chart.panels), figsize=(3.4 * len(chart.panels), 3.0), squeeze=False)
        for panel, (heading, curves) in zip(panels[0], chart.panels.items(), strict=True):
            _fill(panel, chart, heading, curves)
        names = {line.get_label(): line for panel in panels[0] for line in panel.get_lines()}
        figure.legend(names.values(), names, loc="upper center", ncols=len(names), frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.92))
        file = folder / chart.file
        folder.mkdir(parents=True, exist_ok=True)
        # Without a date, the same figures are the same file.
        figure.savefig(file, metadata={"Date": None, "Creator": None})
        plt.close(figure)
    drawing = _ASIDE.sub("", file.read_text(encoding="utf-8"))
    file.write_text("\n".join(line.rstrip() for line in drawing.splitlines() if line.strip()) + "\n", encoding="utf-8")
    return file


def _fill(panel: Any, chart: Chart, heading: str, curves: dict[str, Curve]) -> None:
    from matplotlib import ticker  # noqa: PLC0415 - as in `draw`

    for name, curve in curves.items():
        colour = COLOURS.get(name, OTHER_COLOUR)
        panel.plot(*zip(*curve, strict=True), marker="o", markersize=3, linewidth=1.2, color=colour, label=name)
    if chart.linear:
        panel.set_ylim(bottom=0)
    else:
        panel.set_xscale("log")
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(ticker.LogLocator(subs=(1, 2, 5)))
        panel.yaxis.set_major_formatter(ticker.StrMethodFormatter("{x:,g}"))
    points = sorted({at for curve in curves.values() for at, _ in curve})
    if len(points) <= MOST_TICKS:
        panel.set_xticks(points)
    panel.xaxis.set_major_formatter(ticker.EngFormatter(sep=""))
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_locator(ticker.NullLocator())
    panel.set(xlabel=chart.axis, title=heading)
    panel.grid(visible=True, which="major", linewidth=0.4, color="#bdbdbd")
    panel.spines[["top", "right"]].set_visible(False)


def read(file: Path) -> dict[str, Any] | None:
    """Read what a part has kept, or None if it has kept nothing."""
    if not file.exists():
        return None
    kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return kept
