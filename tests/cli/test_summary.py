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


def test_a_clean_run_names_its_files_and_no_next_step() -> None:
    said = text(succeeded=3, images=3, bytes=4_500_000, attempts=3)
    assert said == (
        "3 jobs: 3 succeeded\n3 images, 4.5 MB, 3 attempts, about 0.00 USD, 1 min 15 s\n\n"
        "images    out/images/\nmetadata  out/metadata.jsonl"
    )


def test_failures_are_shown_with_the_file_and_the_option() -> None:
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


def test_attempts_in_doubt_are_shown_even_if_every_job_succeeded() -> None:
    said = text(succeeded=5, doubts=2)
    assert "2 requests may have been billed for nothing: an unknown amount\n" in said
    assert "errors    out/errors.jsonl" in said


def test_a_run_without_requests_in_doubt_does_not_mention_them() -> None:
    assert "billed" not in text(succeeded=5, failed=1)


def test_filtered_jobs_have_no_next_step() -> None:
    assert "2 filtered: the safety filter removed all images; there is nothing to retry" in text(filtered=2)


def test_missing_images_of_a_partial_job_can_be_asked_for_again() -> None:
    assert "1 partial: the other images were filtered or did not arrive, see out/errors.jsonl" in text(partial=1)


def test_after_an_outage_the_advice_is_to_wait() -> None:
    assert "Stopped early: wait until the gateway is back." in text(ending=Ending(error=exceptions.OutageError("gone")))


def test_skipped_rows_are_shown_with_their_file() -> None:
    assert "4 rows skipped as not valid: see out/invalid.jsonl." in text(succeeded=1, invalid=4)


def test_an_interrupted_run_shows_its_progress_and_how_to_resume() -> None:
    said = text(succeeded=3, ending=Ending(number=signal.SIGINT, total=1000))
    assert said.startswith("3 of 1,000 jobs: 3 succeeded")
    assert "Interrupted: run the same command again" in said


def test_a_stopped_run_begins_with_the_next_step() -> None:
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


def test_the_most_frequent_reasons_are_shown_and_their_number_is_bounded() -> None:
    reasons = Reasons()
    for number in range(1000):
        reasons.note(ImagenError(f"no {number}"))
    for _ in range(3):
        reasons.note(ImagenError("no 7"))
    assert reasons.lines()[0] == "  4 × ImagenError: no 7"
    assert len(reasons.lines()) == 3
    assert len(reasons._counter) == 50


def test_reasons_differ_by_more_than_the_request_id() -> None:
    reasons = Reasons()
    for number in range(2):
        reasons.note(exceptions.RejectedError("no", status=400, request_id=str(number)))
    assert reasons.lines() == ["  2 × RejectedError: no"]


def test_foreign_text_cannot_control_the_terminal() -> None:
    reasons = Reasons()
    reasons.note(ImagenError("\x1b[2J\nforged line"))
    said = text(failed=1, reasons=reasons, output=Path("o\x1b]0;ut"))
    assert all(line.isprintable() for line in said.split("\n"))


def test_a_plan_states_that_nothing_was_sent() -> None:
    plan = Plan(rows=10, jobs=12, images=40, cost_usd=1.6, seconds=660.0, notes={"unusual": 2})
    said = plan_text(plan)
    for part in ("rows      10", "requests  12", "images    40", "about 1.60 USD", "11 min 00 s", "unusual (2 rows)"):
        assert part in said
    assert said.endswith("Nothing was sent.")


def test_a_plan_without_price_and_rate_names_the_options_for_them() -> None:
    said = plan_text(Plan(rows=1, jobs=1, images=1, cost_usd=None, seconds=None, notes={}))
    assert "not in the catalog" in said
    assert "--rpm" in said
