"""Writes the text at the end of a run: its results, where the files are, and what to do next."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import attrs

from imagen_async.cli.formatting import cost_in_doubt, count, duration, size, usd
from imagen_async.exceptions import (
    AuthenticationError,
    ConfigurationError,
    EndpointNotFoundError,
    ImagenError,
    InvalidInputError,
    JournalError,
    JournalLockedError,
    LimitReachedError,
    ModelNotFoundError,
    OutageError,
    PermissionDeniedError,
    RedirectedError,
    StoreError,
    printable,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from imagen_async.batch import Plan, Summary

__all__ = ["Ending", "Reasons", "advice", "plan_text", "run_text"]

_KINDS = 50
_SHOWN = 3
_LONGEST = 200


@attrs.frozen(kw_only=True)
class Ending:
    """How a run ended, apart from its figures.

    Attributes:
        error: What stopped it early, or None.
        number: The signal that interrupted it, or None.
        total: Number of jobs, or None if unknown.
    """

    error: ImagenError | None = None
    number: int | None = None
    total: int | None = None


class Reasons:
    """Counts why jobs did not succeed; keeps the first fifty different reasons.

    Example:
        >>> reasons = Reasons()
        >>> for _ in range(3):
        ...     _ = reasons.note(ImagenError("out of order"))
        >>> reasons.lines()
        ['  3 × ImagenError: out of order']
    """

    def __init__(self) -> None:
        self._counter: Counter[str] = Counter()

    def note(self, error: ImagenError) -> str:
        """Count an error, and return it as printable text."""
        # Without the request id, which would make every reason different.
        text = printable(f"{type(error).__name__}: {error.message}", _LONGEST)
        if text in self._counter or len(self._counter) < _KINDS:
            self._counter[text] += 1
        return text

    def lines(self) -> list[str]:
        """Return the most frequent, a line each."""
        return [f"  {times:,} × {text}" for text, times in self._counter.most_common(_SHOWN)]


def run_text(sums: Summary, *, output: Path, ending: Ending, reasons: Reasons) -> str:
    """Return the summary of a run."""
    paragraphs = [_figures(sums, ending), _places(sums, output), *_next_steps(sums, output, ending, reasons)]
    return "\n\n".join("\n".join(lines) for lines in paragraphs if lines)


def _figures(sums: Summary, ending: Ending) -> list[str]:
    shown = ("succeeded", "skipped", "partial", "filtered", "failed", "in_doubt")
    states = [f"{getattr(sums, name):,} {name.replace('_', ' ')}" for name in shown if getattr(sums, name)]
    whole = ending.total is None or ending.total == sums.jobs
    jobs = count(sums.jobs, "job") if whole else f"{sums.jobs:,} of {count(ending.total or 0, 'job')}"
    spent = [
        count(sums.images, "image"),
        size(sums.bytes),
        count(sums.attempts, "attempt"),
        f"about {usd(sums.cost_usd)}",
        duration(sums.elapsed_s),
    ]
    none = "nothing to do" if whole else "none has ended"
    lines = [f"{jobs}: {', '.join(states) or none}", ", ".join(spent)]
    if sums.doubts:
        # Even if no job is in doubt: a first attempt may have been billed before a second one returned the images.
        lost = f"{count(sums.doubts, 'request')} may have been billed for nothing"
        lines.append(f"on top of that, {lost}: {cost_in_doubt(sums.doubtful_usd)}")
    return lines


def _places(sums: Summary, output: Path) -> list[str]:
    folder = printable(str(output))
    places = [f"images    {folder}/images/", f"metadata  {folder}/metadata.jsonl"]
    if sums.failed or sums.in_doubt or sums.filtered or sums.partial or sums.doubts:
        places.append(f"errors    {folder}/errors.jsonl")
    if sums.invalid:
        places.append(f"invalid   {folder}/invalid.jsonl")
    return places


def _next_steps(sums: Summary, output: Path, ending: Ending, reasons: Reasons) -> list[list[str]]:
    folder = printable(str(output))
    steps: list[list[str]] = []
    if ending.error is not None:
        text = advice(ending.error)
        steps.append([f"Stopped early: {text} Then run the same command again to resume."])
    elif ending.number is not None:
        steps.append(["Interrupted: run the same command again to resume."])
    if sums.failed:
        steps.append([f"{sums.failed:,} failed: see {folder}/errors.jsonl; run the same command with --retry-failed."])
    if sums.in_doubt:
        steps.append([_in_doubt(sums)])
    if sums.filtered:
        steps.append([_filtered(sums)])
    if sums.partial:
        steps.append([_partial(sums, folder)])
    if sums.invalid:
        steps.append([f"{count(sums.invalid, 'row')} skipped as not valid: see {folder}/invalid.jsonl."])
    if (sums.failed or sums.in_doubt or sums.filtered) and (lines := reasons.lines()):
        steps.append(["Most often:", *lines])
    return steps


def _in_doubt(sums: Summary) -> str:
    return (
        f"{sums.in_doubt:,} in doubt: sent, but no response arrived; they may have been billed. --retry-failed sends "
        "them again and may pay for them twice."
    )


def _filtered(sums: Summary) -> str:
    return (
        f"{sums.filtered:,} filtered: the safety filter removed all images; there is nothing to retry. With a "
        "different prompt they are new jobs."
    )


def _partial(sums: Summary, folder: str) -> str:
    return (
        f"{sums.partial:,} partial: the other images were filtered or did not arrive, see {folder}/errors.jsonl; "
        "--retry-failed asks again for those that did not arrive."
    )


def advice(error: ImagenError) -> str:
    """Return what to do about an error that stopped a run, in a sentence.

    Example:
        >>> advice(LimitReachedError("2 of 2 images"))
        'raise --max-images or --budget.'
    """
    return next((text for kinds, text in _ADVICE if isinstance(error, kinds)), "see the error above.")


_ADVICE: tuple[tuple[type[ImagenError] | tuple[type[ImagenError], ...], str], ...] = (
    (LimitReachedError, "raise --max-images or --budget."),
    (AuthenticationError, "check the key (`imagen-async models --remote` tests it at no cost)."),
    (PermissionDeniedError, "check the key's quota, its models and this machine's address with the gateway."),
    (ModelNotFoundError, "choose a model that the gateway has: `imagen-async models --remote` lists them."),
    ((RedirectedError, EndpointNotFoundError), "set --base-url to where the gateway is."),
    (OutageError, "wait until the gateway is back."),
    (StoreError, "make room on the disk, or make the folder writable."),
    (JournalLockedError, "wait until the other run has ended."),
    (JournalError, "make room on the disk, or make the folder writable."),
    (InvalidInputError, "correct the row, or let bad rows be skipped with --skip-invalid."),
    (ConfigurationError, "correct the option."),
)


def plan_text(plan: Plan) -> str:
    """Return what a run would send and cost."""
    cost = "unknown: a model's price is not in the catalog" if plan.cost_usd is None else f"about {usd(plan.cost_usd)}"
    time = (
        "depends on the gateway: give --rpm or --images-per-minute for an estimate"
        if plan.seconds is None
        else (f"at least {duration(plan.seconds)} at the given rate")
    )
    lines = [
        f"rows      {plan.rows:,}",
        f"requests  {plan.jobs:,}",
        f"images    {plan.images:,}",
        f"cost      {cost}",
        f"time      {time}",
        *_notes(plan.notes),
        "Nothing was sent.",
    ]
    return "\n".join(lines)


def _notes(notes: Mapping[str, int]) -> list[str]:
    return [f"note      {printable(note, _LONGEST)} ({count(rows, 'row')})" for note, rows in notes.items()]
