"""The report of the torture runs."""

from __future__ import annotations

from tests.torture.crash_points import Result, Trial
from tests.torture.report import holds, report


def result(text: str, outcome: str, breach: str | None = None) -> Result:
    return Result(Trial.parsed(text), outcome, breach)


KILLED = result("fresh:kill:fsync:.imagen/tmp/imagen-000000000000-1.partial:1", "killed")
SURVIVED = result("fresh:EIO:unlink:.imagen/tmp/imagen-000000000000-1.partial:1", "went on")
MISSED = result("fresh:kill:fsync:metadata.jsonl:9", "not reached")
BROKEN = result("fresh:full:write:it's.jsonl:2", "BREACH", "a finished image is gone")


def test_a_breach_is_reported_with_the_command_that_repeats_it() -> None:
    assert not holds([KILLED, BROKEN])
    told = report([KILLED, BROKEN])
    assert "BREACH at fresh:full:write:it's.jsonl:2: a finished image is gone" in told
    assert """python -m tests.torture crash-points --only 'fresh:full:write:it'"'"'s.jsonl:2'""" in told
    assert told.endswith("2 points, 2 reached: 1 breaches")


def test_failed_calls_without_effect_are_reported_by_kind() -> None:
    assert "unlink .imagen/tmp/imagen-*-*.partial (2)" in report([KILLED, SURVIVED, SURVIVED])


def test_points_that_were_not_reached_fail_the_run() -> None:
    assert holds([KILLED, KILLED, KILLED, KILLED, KILLED, MISSED])
    for results in ([], [MISSED], [KILLED, MISSED]):
        assert not holds(results)
        assert report(results).endswith("reached: that is too few")
