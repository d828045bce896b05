"""The journal against a plain dictionary, through any sequence of operations, deaths and reopenings."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imagen_async.batch.journal import (
    INTENT,
    INTERRUPTED,
    Admission,
    Doubt,
    Entry,
    Journal,
    admission,
    queries,
    read_status,
    transitions,
)
from imagen_async.exceptions import JournalError
from tests.batch.journals import doubts_in, failures_in

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable

T = TypeVar("T")

ENDS = ["succeeded", "partial", "filtered", "failed", "in_doubt"]

Asked = tuple[int, float]
"""Images, and what they may cost."""


def summed(asked: Iterable[Asked]) -> Asked:
    known = list(asked)
    return sum(images for images, _ in known), round(sum(usd for _, usd in known), 9)


@attrs.define
class ModelJob:
    """What the journal should know of one job."""

    status: str | None = None
    before: str | None = None
    attempts: int = 0
    images: int = 0
    asked: Asked = (0, 0.0)
    doubts: dict[int, Asked] = attrs.field(factory=dict)
    in_doubt: int = 0
    key: str | None = None

    @property
    def unanswered(self) -> bool:
        return self.status == INTENT and self.attempts not in self.doubts


class JournalMachine(RuleBasedStateMachine):
    """Jobs 0 to 4, each admitted at the opening of each run."""

    names = st.integers(0, 4)
    asked = st.tuples(st.integers(0, 4), st.integers(0, 20_000).map(lambda parts: parts / 1e4))

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.model = [ModelJob() for _ in range(5)]
        self.withdrawn = 0
        self.keys = itertools.count()
        self.open()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def open(self) -> None:
        self.journal = self.wait(Journal.open(self.folder, fsync=False, clock=lambda: 1.0))
        self.entries: list[Entry] = self.wait(
            self.journal.perform(admission.admit, [Admission(bytes([name]) * 16, line=name) for name in range(5)])
        )
        self.sent = [0] * 5
        for entry, job in zip(self.entries, self.model, strict=True):
            assert (entry.status, entry.attempts, entry.images) == (job.status, job.attempts, job.images)
            assert (entry.in_doubt, entry.idempotency_key) == (job.in_doubt, job.key)

    def kept(self, entry: Entry) -> set[int]:
        return {index for index, _ in self.wait(self.journal.perform(queries.history, entry.key)).images}

    @rule(name=names, asked=asked)
    def intent(self, name: int, asked: Asked) -> None:
        job, entry = self.model[name], self.entries[name]
        attempt, (images, usd) = self.sent[name] + 1, asked
        key = f"key {next(self.keys)}"
        work = self.journal.perform(transitions.intent, entry, attempt=attempt, images=images, usd=usd, key=key)
        if job.status == "succeeded":
            with pytest.raises(JournalError):
                self.wait(work)
            return
        self.wait(work)
        self.sent[name], job.asked, job.key = attempt, asked, key
        job.before = job.before if job.status == INTENT else job.status
        job.status, job.attempts = INTENT, entry.attempts + attempt

    @rule(name=names)
    def never_sent(self, name: int) -> None:
        job = self.model[name]
        self.wait(self.journal.perform(transitions.never_sent, self.entries[name]))
        if job.status != INTENT:
            return
        if job.before is None and job.attempts == 1 and not job.doubts:
            self.model[name] = ModelJob()
            return
        job.status, job.before = job.before or INTERRUPTED, None
        job.attempts = max(job.attempts - 1, max(job.doubts, default=0))

    @rule(name=names)
    def answered(self, name: int) -> None:
        job = self.model[name]
        self.wait(self.journal.perform(transitions.answered, self.entries[name]))
        if job.status == INTENT:
            job.status, job.before, job.key = INTERRUPTED, None, None

    @rule(name=names, asked=asked)
    def doubt(self, name: int, asked: Asked) -> None:
        job, entry, attempt = self.model[name], self.entries[name], self.sent[name]
        doubt = Doubt(attempt=attempt, at=1.0, reason="lost", images=asked[0], usd=asked[1])
        if job.status is None:
            with pytest.raises(JournalError):
                self.wait(self.journal.perform(transitions.doubt, entry, doubt))
        elif attempt:
            self.wait(self.journal.perform(transitions.doubt, entry, doubt))
            job.in_doubt += entry.attempts + attempt not in job.doubts
            job.doubts.setdefault(entry.attempts + attempt, asked)  # what is recorded already stays so

    @rule(name=names, status=st.sampled_from(ENDS), images=st.sets(st.integers(0, 3)))
    def done(self, name: int, status: str, images: set[int]) -> None:
        job, entry = self.model[name], self.entries[name]
        kept = self.kept(entry)
        work = self.journal.perform(
            transitions.done,
            entry,
            status=status,
            images=[(index, {"bytes": 3}) for index in images],
            attempts=self.sent[name],
        )
        if job.status == "succeeded" and status != "succeeded":
            with pytest.raises(JournalError):
                self.wait(work)
            return
        self.wait(work)
        job.status, job.before = status, None
        job.attempts = max(job.attempts, entry.attempts + self.sent[name])
        job.images = len(kept | images)
        job.in_doubt = 0 if status == "succeeded" else job.in_doubt
        job.key = job.key if job.attempts in job.doubts else None

    @rule(name=names, images=st.sets(st.integers(0, 3)), missing=st.integers(0, 3))
    def adopt(self, name: int, images: set[int], missing: int) -> None:
        job, entry = self.model[name], self.entries[name]
        if job.status is None and not missing:  # a job that was never begun has left no files
            return
        kept = self.kept(entry)
        work = self.journal.perform(
            transitions.adopt, entry, images=[(index, {"bytes": 3}) for index in images], missing=missing
        )
        if missing and job.status in {None, INTENT}:
            with pytest.raises(JournalError):
                self.wait(work)
            return
        self.wait(work)
        job.images = len(kept | images)
        last = max(job.doubts, default=0)
        if last == job.attempts and job.doubts and job.status != "succeeded":
            asked, usd = job.doubts.pop(last)
            job.in_doubt -= not missing and job.in_doubt > 0
            if missing:
                job.doubts[last] = (missing, round(usd * missing / asked, 9)) if asked > missing else (asked, usd)
        if not missing:
            job.status, job.before, job.in_doubt = "succeeded", None, 0
            job.key = job.key if job.attempts in job.doubts else None

    @rule(name=names, index=st.integers(0, 3))
    def withdraw(self, name: int, index: int) -> None:
        job, entry = self.model[name], self.entries[name]
        kept = self.kept(entry)
        self.wait(self.journal.perform(transitions.withdraw, [(entry.key, index)]))
        if index in kept:
            job.images -= 1
            self.withdrawn += 1
            job.status = INTERRUPTED if job.status == "succeeded" else job.status
            job.in_doubt, job.key = 0, None

    @rule()
    def die_and_resume(self) -> None:
        self.wait(self.journal.close())
        in_flight = [job for job in self.model if job.status == INTENT]
        for job in in_flight:
            job.status, job.before = INTERRUPTED, None
            job.in_doubt += job.attempts not in job.doubts
            job.doubts.setdefault(job.attempts, job.asked)
        self.open()
        assert self.journal.abandoned == len(in_flight)

    @precondition(lambda self: hasattr(self, "journal"))
    @invariant()
    def sums_and_lists_agree(self) -> None:
        totals = self.wait(self.journal.perform(queries.totals))
        statuses = [job.status for job in self.model if job.status]
        assert {state: n for state, n in totals.jobs.items() if n} == {s: statuses.count(s) for s in statuses}
        assert totals.attempts == sum(job.attempts for job in self.model)
        assert (totals.images, totals.bytes) == (images := sum(job.images for job in self.model), 3 * images)
        assert sum(self.wait(self.journal.perform(queries.images_by_model)).values()) == images + self.withdrawn
        doubts = [asked for job in self.model for asked in job.doubts.values()]
        assert totals.doubts == len(doubts)
        assert (totals.doubtful_images, totals.doubtful_usd) == summed(doubts)
        flying = [job.asked for job in self.model if job.unanswered]
        unanswered = totals.unanswered
        assert (unanswered.requests, unanswered.images, unanswered.usd) == (len(flying), *summed(flying))
        assert self.wait(self.listed()) == (
            [i for i, job in enumerate(self.model) if job.status not in {None, INTENT, "succeeded"}],
            sorted((i, number, *asked) for i, job in enumerate(self.model) for number, asked in job.doubts.items()),
        )
        assert read_status(self.folder) == totals

    async def listed(self) -> tuple[list[int], list[tuple[int, int, int, float]]]:
        failures = [failure.line for failure in await failures_in(self.journal)]
        doubts = [(each.line, each.doubt) for each in await doubts_in(self.journal)]
        return failures, sorted((line, doubt.attempt, doubt.images, doubt.usd) for line, doubt in doubts)

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.wait(self.journal.close())
            self.loop.close()
            shutil.rmtree(self.folder)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
