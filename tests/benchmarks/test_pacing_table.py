from __future__ import annotations

import attrs
import pytest

from benchmarks.pacing.contender import Played, Tally
from benchmarks.pacing.rounds import Results, Run
from benchmarks.pacing.rows import Row, Target
from benchmarks.pacing.server import Counted
from benchmarks.pacing.table import rows, verdict

ROW = Row(name="rate", title="40/s", contenders=("ours",), target=Target(wasted=0.05, share=0.92))
COUNTED = Counted(
    accepted=800,
    refused=0,
    early=0,
    most=20,
    most_after=0.1,
    last=20.0,
    accepted_by_second="40",
    refused_by_second="0",
)


def ran(*, failed: int = 0, seconds: float = 20.0, refused: int = 0, shared: tuple[int, ...] = (800,)) -> Run:
    played = Played(done=800 - failed, failed=failed, seconds=seconds, shared=shared)
    return Run(played, attrs.evolve(COUNTED, accepted=800 - failed, refused=refused))


def results(*runs: Run) -> Results:
    return Results(runs={("rate", "ours"): list(runs)})


def test_the_share_counts_finished_jobs_only() -> None:
    assert ran(seconds=25.0).share(ROW) == pytest.approx(0.8)
    assert ran(failed=400, seconds=25.0).share(ROW) == pytest.approx(0.4)


def test_waste_is_a_part_of_all_requests() -> None:
    assert ran(refused=200).wasted == pytest.approx(0.2)


def test_batches_are_compared_when_the_first_of_them_ends() -> None:
    tally = Tally([2, 2])
    for batch, good in [(0, True), (1, False), (1, True), (0, True)]:
        tally.told(batch, good)
    assert (tally.shared, tally.done, tally.ended) == ((1, 2), 3, [2, 2])
    assert ran(shared=tally.shared).uneven == pytest.approx(0.5)


def test_a_row_has_the_target_and_then_the_result() -> None:
    heading, wanted, figures = rows([ROW], results(ran()))
    assert wanted[:5] == ["40/s", "to reach", "0", "≤ 5 %", "≥ 0.92"]
    assert figures[:5] == ["", "ours", "0", "0.0 %", "1.00"]
    assert len(heading) == len(wanted) == len(figures)


def test_a_median_shows_its_least_and_most_where_they_differ() -> None:
    figures = rows([ROW], results(ran(), ran(seconds=40.0), ran(seconds=25.0)))[2]
    assert figures[3:5] == ["0.0 %", "0.80 (0.50–1.00)"]


def test_a_contender_without_figures_has_a_reason() -> None:
    none = Results(runs={("rate", "ours"): []}, absent={("rate", "ours"): "stopped after 9 s"})
    assert rows([ROW], none)[2][:3] == ["", "ours", "stopped after 9 s"]
    assert verdict([ROW], none) == "ours misses: rate, ours: no figures"


@pytest.mark.parametrize(
    ("run", "missed"),
    [
        (ran(failed=1), "jobs failed"),
        (ran(refused=60), "wasted on 429"),
        (ran(seconds=22.0), "ideal time / time"),
    ],
)
def test_the_verdict_names_what_is_missed(run: Run, missed: str) -> None:
    assert verdict([ROW], results(run)) == f"ours misses: rate, ours: {missed}"


def test_the_verdict_requires_that_two_batches_share() -> None:
    row = attrs.evolve(ROW, batches=2, target=Target(wasted=0.05, share=0.92, uneven=0.1))
    assert verdict([row], results(ran(shared=(400, 361)))) == "ours reaches all of it"
    assert verdict([row], results(ran(shared=(400, 359)))) == "ours misses: rate, ours: second batch behind"


def test_without_targets_there_is_no_verdict() -> None:
    assert verdict([attrs.evolve(ROW, target=None)], results(ran())) == ""
