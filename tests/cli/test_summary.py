from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest

from imagen_async import exceptions
from imagen_async.batch import Progress, Summary
from imagen_async.batch.plan import Plan
from imagen_async.cli.summary import Ending, Reasons, advice, plan_text, run_text
from imagen_async.exceptions import ImagenError

OUT = Path("out")


def text(*, ending: Ending | None = None, reasons: Reasons | None = None, output: Path = OUT, **counters: Any) -> str:
    progress = Progress(**counters)
    summary = Summary.of(progress, elapsed_s=75)
    return run_text(summary, output=output, ending=ending or Ending(), reasons=reasons or Reasons())


def test_a_clean_run_says_where_things_are_and_nothing_to_do() -> None:
    said = text(succeeded=3, images=3, bytes=4_500_000, attempts=3)
    assert said == (
        "3 jobs: 3 succeeded\n3 images, 4.5 MB, 3 attempts, about 0.00 USD, 1 min 15 s\n\n"
        "images    out/images/\nmetadata  out/metadata.jsonl"
    )


def test_failures_are_told_with_the_file_and_the_option() -> None:
    said = text(succeeded=1, failed=12)
    assert "12 failed: see out/errors.jsonl; run the same command with --retry-failed." in said
    assert "errors    out/errors.jsonl" in said


def test_doubt_is_explained_with_what_it_may_cost() -> None:
    progress = Progress(in_doubt=2, doubts=3, doubtful_usd=0.12)
    said = run_text(Summary.of(progress, elapsed_s=1), output=OUT, ending=Ending(), reasons=Reasons())
    assert "2 in doubt: sent, but no response arrived; they may have been billed." in said
    assert "may pay for them twice" in said
    figures = said.split("\n\n")[0].splitlines()
    assert "about 0.00 USD" in figures[1]
    assert figures[2] == "on top of that, 3 requests may have been billed for nothing: at most 0.12 USD"


def test_attempts_that_may_have_cost_are_told_although_every_job_succeeded() -> None:
    said = text(succeeded=5, doubts=2)
    assert "2 requests may have been billed for nothing: an unknown amount\n" in said
    assert "errors    out/errors.jsonl" in said


def test_a_run_without_doubts_says_nothing_of_them() -> None:
    assert "billed" not in text(succeeded=5, failed=1)


def test_the_filter_leaves_nothing_to_do() -> None:
    assert "2 filtered: the safety filter removed all images; there is nothing to retry" in text(filtered=2)


def test_what_did_not_arrive_of_a_partial_job_can_be_asked_for() -> None:
    assert "1 partial: the other images were filtered or did not arrive, see out/errors.jsonl" in text(partial=1)


def test_an_outage_says_to_wait() -> None:
    assert "Stopped early: wait until the gateway is back." in text(ending=Ending(error=exceptions.OutageError("gone")))


def test_skipped_rows_are_told_with_their_file() -> None:
    assert "4 rows skipped as not valid: see out/invalid.jsonl." in text(succeeded=1, invalid=4)


def test_an_interrupted_run_says_how_far_it_came_and_that_it_goes_on() -> None:
    said = text(succeeded=3, ending=Ending(number=signal.SIGINT, total=1000))
    assert said.startswith("3 of 1,000 jobs: 3 succeeded")
    assert "Interrupted: run the same command again" in said


def test_a_stopped_run_says_what_to_do_first() -> None:
    said = text(ending=Ending(error=exceptions.LimitReachedError("2 of 2 images")))
    assert "Stopped early: raise --max-images or --budget. Then run the same command again" in said


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (exceptions.AuthenticationError("x", status=401), "check the key"),
        (exceptions.PermissionDeniedError("x", status=403), "quota"),
        (exceptions.ModelNotFoundError("x", status=503), "models --remote"),
        (exceptions.StoreError("x"), "disk"),
        (exceptions.JournalLockedError("x"), "other run"),
        (exceptions.JournalError("x"), "disk"),
        (exceptions.InvalidInputError("x", [], 1), "--skip-invalid"),
        (exceptions.ConfigurationError("x"), "correct"),
        (ImagenError("x"), "error above"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_each_stop_has_its_advice(error: ImagenError, part: str) -> None:
    assert part in advice(error)


def test_the_most_frequent_reasons_are_named_and_few_are_kept() -> None:
    reasons = Reasons()
    for number in range(1000):
        reasons.note(ImagenError(f"no {number}"))
    for _ in range(3):
        reasons.note(ImagenError("no 7"))
    assert reasons.lines()[0] == "  4 × ImagenError: no 7"
    assert len(reasons.lines()) == 3
    assert len(reasons._counter) == 50


def test_a_request_id_does_not_make_another_reason() -> None:
    reasons = Reasons()
    for number in range(2):
        reasons.note(exceptions.RejectedError("no", status=400, request_id=str(number)))
    assert reasons.lines() == ["  2 × RejectedError: no"]


def test_foreign_text_cannot_write_to_the_terminal() -> None:
    reasons = Reasons()
    reasons.note(ImagenError("\x1b[2J\nforged line"))
    said = text(failed=1, reasons=reasons, output=Path("o\x1b]0;ut"))
    assert all(line.isprintable() for line in said.split("\n"))


def test_a_plan_says_that_nothing_was_sent() -> None:
    plan = Plan(rows=10, jobs=12, images=40, cost_usd=1.6, seconds=660.0, notes={"unusual": 2})
    said = plan_text(plan)
    for part in ("rows      10", "requests  12", "images    40", "about 1.60 USD", "11 min 00 s", "unusual (2 rows)"):
        assert part in said
    assert said.endswith("Nothing was sent.")


def test_a_plan_without_price_and_rate_says_what_to_give() -> None:
    said = plan_text(Plan(rows=1, jobs=1, images=1, cost_usd=None, seconds=None, notes={}))
    assert "not in the catalog" in said
    assert "--rpm" in said
