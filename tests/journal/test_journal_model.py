"""The journal against a plain dictionary, through any sequence of operations, deaths and reopenings."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from imagen_async.exceptions import JournalError
from imagen_async.journal import INTENT, INTERRUPTED, Admission, Doubt, Entry, Journal, read_status

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")

ENDS = ["succeeded", "partial", "filtered", "failed", "in_doubt"]


@attrs.define
class ModelJob:
    """What the journal should know of one job."""

    status: str | None = None
    before: str | None = None
    attempts: int = 0
    images: int = 0
    doubts: set[int] = attrs.field(factory=set)


class JournalMachine(RuleBasedStateMachine):
    """Jobs 0 to 4, each admitted at the opening of each run."""

    names = st.integers(0, 4)

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.folder = Path(tempfile.mkdtemp())
        self.model = [ModelJob() for _ in range(5)]
        self.open()

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    def open(self) -> None:
        self.journal = self.wait(Journal.open(self.folder, fsync=False, clock=lambda: 1.0))
        self.entries: list[Entry] = self.wait(
            self.journal.admit([Admission(bytes([name]) * 16, line=name) for name in range(5)])
        )
        self.sent = [0] * 5
        for entry, job in zip(self.entries, self.model, strict=True):
            assert (entry.status, entry.attempts, entry.images) == (job.status, job.attempts, job.images)

    @rule(name=names)
    def intent(self, name: int) -> None:
        job, entry = self.model[name], self.entries[name]
        attempt = self.sent[name] + 1
        if job.status == "succeeded":
            with pytest.raises(JournalError):
                self.wait(self.journal.intent(entry, attempt=attempt))
            return
        self.wait(self.journal.intent(entry, attempt=attempt))
        self.sent[name] = attempt
        job.before = job.before if job.status == INTENT else job.status
        job.status, job.attempts = INTENT, entry.attempts + attempt

    @rule(name=names)
    def never_sent(self, name: int) -> None:
        job = self.model[name]
        self.wait(self.journal.never_sent(self.entries[name]))
        if job.status != INTENT:
            return
        if job.before is None and job.attempts == 1 and not job.doubts:
            self.model[name] = ModelJob()
            return
        job.status, job.before = job.before or INTERRUPTED, None
        job.attempts = max(job.attempts - 1, max(job.doubts, default=0))

    @rule(name=names)
    def doubt(self, name: int) -> None:
        job, entry, attempt = self.model[name], self.entries[name], self.sent[name]
        doubt = Doubt(attempt=attempt, at=1.0, reason="lost")
        if job.status is None:
            with pytest.raises(JournalError):
                self.wait(self.journal.doubt(entry, doubt))
        elif attempt:
            self.wait(self.journal.doubt(entry, doubt))
            job.doubts.add(entry.attempts + attempt)

    @rule(name=names, status=st.sampled_from(ENDS), images=st.sets(st.integers(0, 3)))
    def done(self, name: int, status: str, images: set[int]) -> None:
        job, entry = self.model[name], self.entries[name]
        kept = {image.index for image in self.wait(self.journal.kept(entry))}
        work = self.journal.done(
            entry, status=status, images=[(index, {"bytes": 3}) for index in images], attempts=self.sent[name]
        )
        if job.status == "succeeded" and status != "succeeded":
            with pytest.raises(JournalError):
                self.wait(work)
            return
        self.wait(work)
        job.status, job.before = status, None
        job.attempts = max(job.attempts, entry.attempts + self.sent[name])
        job.images = len(kept | images)

    @rule()
    def die_and_resume(self) -> None:
        self.wait(self.journal.close())
        in_flight = [job for job in self.model if job.status == INTENT]
        for job in in_flight:
            job.status, job.before = INTERRUPTED, None
            job.doubts.add(job.attempts)
        self.open()
        assert self.journal.abandoned == len(in_flight)

    @precondition(lambda self: hasattr(self, "journal"))
    @invariant()
    def sums_and_lists_agree(self) -> None:
        totals = self.wait(self.journal.counts())
        statuses = [job.status for job in self.model if job.status]
        assert {state: n for state, n in totals.jobs.items() if n} == {s: statuses.count(s) for s in statuses}
        assert totals.attempts == sum(job.attempts for job in self.model)
        assert (totals.images, totals.bytes) == (images := sum(job.images for job in self.model), 3 * images)
        assert totals.doubts == sum(len(job.doubts) for job in self.model)
        assert self.wait(self.listed()) == (
            [i for i, job in enumerate(self.model) if job.status not in {None, INTENT, "succeeded"}],
            sorted((i, number) for i, job in enumerate(self.model) for number in job.doubts),
        )
        assert read_status(self.folder) == totals

    async def listed(self) -> tuple[list[int], list[tuple[int, int]]]:
        failures = [failure.line async for failure in self.journal.failures()]
        return failures, sorted([(each.line, each.doubt.attempt) async for each in self.journal.doubts()])

    def teardown(self) -> None:
        if hasattr(self, "journal"):
            self.wait(self.journal.close())
            self.loop.close()
            shutil.rmtree(self.folder)


TestJournal = JournalMachine.TestCase
TestJournal.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)
