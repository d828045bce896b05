"""What a long batch must keep to, beside what was measured, as a Markdown table; pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from benchmarks.scale_run import Told

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.scale_run import Sample

__all__ = ["MOST_BYTES", "Command", "Results", "as_markdown", "costs", "growth", "speeds"]

MOST_BYTES = 150_000_000
MOST_SECONDS = 10.0
MOST_STATUS_SECONDS = 2.0
LEAST_SPEED = 0.9
PARTS = 10
"""The first and the last of so many parts of the rows are compared: of a million, the first and the last 100,000."""


@attrs.frozen(kw_only=True)
class Command:
    """One command line, from its start to its end.

    Attributes:
        seconds: On the clock.
        peak_rss: Most bytes resident.
        said: The last line of its output.
    """

    seconds: float
    peak_rss: int
    said: str


@attrs.frozen(kw_only=True)
class Results:
    """All phases; each is None if it did not run.

    Attributes:
        rows: In the file of prompts.
        batch: The batch itself.
        again: Every outcome of the finished batch, told again by `Batch`.
        run: The same command again, ``imagen-async run``.
        killed: Like `run`, after a run that was killed before it could close the journal.
        status: ``imagen-async status``.
    """

    rows: int
    batch: Told | None = None
    again: Told | None = None
    run: Command | None = None
    killed: Command | None = None
    status: Command | None = None


def growth(samples: Sequence[Sample]) -> tuple[int, int]:
    """Return the maximum resident bytes in the first and in the last part of the rows."""
    first, last = _ends(samples)
    return max(sample.peak_rss for sample in first), max(sample.peak_rss for sample in last)


def speeds(samples: Sequence[Sample]) -> tuple[float, float]:
    """Return the jobs a second in the first and in the last part of the rows."""
    first, last = _ends(samples)
    before = samples[-len(last) - 1] if len(samples) > len(last) else attrs.evolve(samples[0], jobs=0, seconds=0.0)
    late = (last[-1].jobs - before.jobs) / (last[-1].seconds - before.seconds)
    return first[-1].jobs / first[-1].seconds, late


def costs(samples: Sequence[Sample]) -> tuple[float, float]:
    """Give the CPU seconds a job likewise, which tell less of what else the machine does; 0.0 of too few samples.

    The first part begins with the first sample: what the process did before its first job is none of it.
    """
    part = len(_ends(samples)[0])
    if len(samples) <= part:
        return 0.0, 0.0
    return _cost(samples[0], samples[part]), _cost(samples[-part - 1], samples[-1])


def _cost(one: Sample, other: Sample) -> float:
    return (other.cpu_seconds - one.cpu_seconds) / (other.jobs - one.jobs)


def _ends(samples: Sequence[Sample]) -> tuple[Sequence[Sample], Sequence[Sample]]:
    part = max(1, len(samples) // PARTS)
    return samples[:part], samples[-part:]


def as_markdown(results: Results) -> str:
    """Write the table, a line for each limit of which there is a figure."""
    lines = [line for part in (_of_batch, _of_commands) for line in part(results)]
    return "\n".join(
        ["| | limit | measured |", "| --- | ---: | ---: |", *(f"| {' | '.join(line)} |" for line in lines)]
    )


def _of_batch(results: Results) -> list[tuple[str, str, str]]:
    told = results.batch
    if told is None or not told.samples:
        return []
    (first, last), (early, late) = growth(told.samples), speeds(told.samples)
    cost, late_cost = costs(told.samples)
    part = f"{max(1, len(told.samples) // PARTS) * told.samples[0].jobs:,}"
    return [
        ("jobs", "–", f"{sum(told.statuses.values()):,} ({_listed(told.statuses)})"),
        ("memory at any time", f"≤ {_mb(MOST_BYTES)}", _mb(told.peak_rss)),
        (f"memory in the last {part}, and in the first", "no more", f"{_mb(last)}, {_mb(first)}"),
        (
            f"jobs/s in the last {part} ÷ in the first",
            f"≥ {LEAST_SPEED}",
            f"{late / early:.2f} ({late:,.0f} ÷ {early:,.0f})",
        ),
        ("open files, most", "–", str(max(sample.descriptors for sample in told.samples))),
        (f"CPU ms a job in the last {part}, and in the first", "–", f"{1e3 * late_cost:.2f}, {1e3 * cost:.2f}"),
        ("journal, bytes a job", "–", f"{told.samples[-1].journal / told.samples[-1].jobs:,.0f}"),
    ]


def _of_commands(results: Results) -> list[tuple[str, str, str]]:
    lines: list[tuple[str, str, str]] = []
    named = (
        ("the same command again, all done", results.run, MOST_SECONDS),
        ("likewise, after `kill -9`", results.killed, MOST_SECONDS),
        ("`imagen-async status`", results.status, MOST_STATUS_SECONDS),
    )
    for name, command, limit in named:
        if command is not None:
            lines.append(
                (name, f"≤ {limit:g} s, ≤ {_mb(MOST_BYTES)}", f"{command.seconds:.1f} s, {_mb(command.peak_rss)}")
            )
    if (again := results.again) is not None:
        told = f"{again.seconds:.1f} s, the first after {again.first_s:.1f} s, {_mb(again.peak_rss)}"
        lines.append(("every outcome of it again, through `Batch`", f"≤ {_mb(MOST_BYTES)}", told))
    return lines


def _listed(statuses: Mapping[str, int]) -> str:
    return ", ".join(f"{number:,} {status}" for status, number in statuses.items())


def _mb(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
