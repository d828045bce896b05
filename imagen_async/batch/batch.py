"""A batch: rows in, outcomes out, and a folder that survives ``kill -9``.

`intake` reads the jobs, `resume` decides what earlier runs left to do, the client sends, and `recorder` records.
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

from imagen_async._cancellation import unbroken
from imagen_async._validation import Number
from imagen_async.batch.budget import Budget
from imagen_async.batch.disk_space import MIN_FREE, Space
from imagen_async.batch.finished_input import FinishedInput
from imagen_async.batch.folder import IMAGES_NAME, INNER_NAME, TEMPORARY_NAME, refuse_links
from imagen_async.batch.intake import Intake, Item, Task
from imagen_async.batch.journal import Journal
from imagen_async.batch.progress import Progress, Summary
from imagen_async.batch.recorder import JobRecorder, RunRecorder
from imagen_async.batch.resume import Earlier, Resume
from imagen_async.batch.sources.feed import aside
from imagen_async.batch.sources.source import Report, Source
from imagen_async.batch.text_files import InvalidFile
from imagen_async.batch.verify import withdraw_damaged
from imagen_async.client.stop import JobStopped
from imagen_async.client.stream import NoResult, Stream
from imagen_async.exceptions import ConfigurationError, ImagenError, InvalidRequestError, printable
from imagen_async.outcome import Outcome, Status
from imagen_async.stores import LocalStore

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from imagen_async.client.client import ImagenClient

__all__ = ["Batch"]

_NOT_ENTERED = (
    "a batch must be entered, so that leaving it early unlocks its folder; write: "
    "async with Batch(client, requests, output=folder) as batch, and inside of it: async for outcome in batch"
)


class Batch(AsyncIterator[Outcome]):
    """Run many requests into a folder; run it again to continue where it stopped.

    Iterate it inside ``async with``; each job has one outcome. A job that succeeded in an earlier run is ``skipped``.
    Any other job that ended there is reported again, unless `retry_failed` retries it. A job that an earlier run left
    in flight is sent again as far as the client's `RetryPolicy.on_ambiguous` allows, counted over all runs.

    Args:
        client: Sends the requests; its permits are shared with its other calls.
        requests: A `Source` from `open_source`, or prompts, requests or rows from an iterable or async iterable. A file
            is checked whole before anything is sent; other input is checked row by row.
        output: The folder: ``images/``, ``metadata.jsonl``, ``errors.jsonl``, and the journal in ``.imagen/``.
        ordered: Whether outcomes come in the order of the input.
        retry_failed: Whether jobs that failed or are in doubt are retried, and missing images of partial jobs requested
            again. Images in doubt may then be billed once more.
        redo_damaged: Whether every image of the folder is first compared with its record, and images whose files are
            missing or altered are requested again. The files are left as they are.
        fsync: Whether a job that is reported done survives a loss of power, not only of the process.
        max_images: Most images that this folder may ever buy, or None.
        budget: Most US dollars that this folder may ever cost by list price, or None.
        min_free: Bytes of the disk to keep free, besides room for the images in flight; below that the batch stops.
            0 turns the check off.
        skip_invalid: Whether invalid rows are listed in ``invalid.jsonl`` and skipped.
        tell_skipped: Whether jobs that succeeded in an earlier run have outcomes as well. Without them, a file whose
            jobs have all succeeded is not read row by row again.

    Raises:
        ConfigurationError: A cap is not a number from 0, or `requests` is not an iterable.

    Attributes:
        progress: The counters so far.
        report: What the first pass over a file found, or None.

    Example:
        >>> import tempfile
        >>> from imagen_async import ImagenClient
        >>> from imagen_async.sandbox import SandboxGateway
        >>> async def main(folder):
        ...     async with SandboxGateway(images="tiny") as gateway:
        ...         async with ImagenClient(gateway.api_key, gateway.base_url) as client:
        ...             async with Batch(client, ["A red fox", "A blue whale"], output=folder) as batch:
        ...                 statuses = [str(outcome.status) async for outcome in batch]
        ...     return statuses, batch.summary.images
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     asyncio.run(main(folder))
        (['succeeded', 'succeeded'], 2)
    """

    def __init__(
        self,
        client: ImagenClient,
        requests: Source | Iterable[Item] | AsyncIterable[Item],
        *,
        output: str | os.PathLike[str],
        ordered: bool = False,
        retry_failed: bool = False,
        redo_damaged: bool = False,
        fsync: bool = True,
        max_images: int | None = None,
        budget: float | None = None,
        min_free: int = MIN_FREE,
        skip_invalid: bool = False,
        tell_skipped: bool = True,
    ) -> None:
        Number(0, whole=True, optional=True).check("max_images", max_images)
        Number(0, optional=True).check("budget", budget)
        if isinstance(requests, str) or not isinstance(requests, Source | Iterable | AsyncIterable):
            raise ConfigurationError("requests must be an iterable; for a file use open_source, for one prompt a list")
        self._client = client
        self._requests = requests
        self._folder = Path(output)
        self._ordered = ordered
        self._retry_failed = retry_failed
        self._redo_damaged = redo_damaged
        self._fsync = fsync
        self._budget = Budget(max_images=max_images, max_usd=budget)
        self._invalid = InvalidFile(self._folder) if skip_invalid else None
        self._tell_skipped = tell_skipped
        self._clock = client.runtime.clock
        temporary = self._folder / INNER_NAME / TEMPORARY_NAME
        self._store = LocalStore(self._folder / IMAGES_NAME, fsync=fsync, temporary=temporary)
        self._stop = client.jobs.stop_scope()
        self._stop.subscribe(self._on_stop)
        self._stream: Stream[Task, Outcome] | None = None
        self._finished: FinishedInput | None = None
        self._began = self._ended = 0.0
        self.progress = Progress()
        self.report: Report | None = None
        self._space = Space(self._folder, self.progress, min_free=min_free)

    def __repr__(self) -> str:
        return f"<Batch into {str(self._folder)!r}: {self.progress.done} done>"

    async def __aenter__(self) -> Self:
        """Check the input, lock the folder, and start.

        Raises:
            InvalidInputError: Rows of a file are not valid; nothing was sent.
            ConfigurationError: The client is closed, the input cannot be read, the output is not a folder, or it or
                something in it is a symbolic link.
            JournalLockedError: Another run is using the folder.
            JournalError: The journal cannot be used.
            StoreError: The folder cannot be written.
        """
        await self._client.open()
        self._began = self._clock()
        await self._check_input()
        await asyncio.to_thread(refuse_links, self._folder)
        journal = await Journal.open(self._folder / INNER_NAME, fsync=self._fsync)
        try:
            await self._begin(journal)
        except BaseException:
            await journal.close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        if self._stream is None:
            raise ConfigurationError(_NOT_ENTERED)
        return self

    async def __anext__(self) -> Outcome:
        """Return the next outcome.

        Raises:
            StopAsyncIteration: Every job has ended.
            ConfigurationError: The batch was not entered, or is closed.
            ImagenError: What stopped the batch (key, model, cap, disk, journal, the first bad row of a pipe), after
                the outcomes of the jobs in flight. The folder can be resumed.
        """
        if self._stream is None:
            raise ConfigurationError(_NOT_ENTERED)
        outcome = await anext(self._stream)
        while outcome.status is Status.SKIPPED and not self._tell_skipped:
            outcome = await anext(self._stream)
        return outcome

    def drain(self) -> None:
        """Send nothing more; jobs in flight are finished, and the others are left to the next run."""
        if self._stream is not None:
            self._stream.drain()

    async def aclose(self) -> None:
        """Cancel the jobs in flight, record them as interrupted, bring the files up to date and unlock the folder.

        A cancellation is raised only after that.

        Raises:
            StoreError: A file cannot be written.
            JournalError: The journal broke.
        """
        stream, self._stream = self._stream, None
        if stream is not None:
            await unbroken(self._end(stream))

    close = aclose

    @property
    def elapsed_s(self) -> float:
        """Seconds since the batch began, until it ended."""
        return (self._ended or self._clock()) - self._began

    @property
    def summary(self) -> Summary:
        """The figures of this run so far."""
        return Summary.of(self.progress, elapsed_s=self.elapsed_s)

    async def _end(self, stream: Stream[Task, Outcome]) -> None:
        try:
            await stream.aclose()
            await self._recorder.settle()
            await self._record_finished()
        finally:
            self._ended = self._clock()
            await self._recorder.journal.close()

    async def _check_input(self) -> None:
        if isinstance(self._requests, Source) and self._requests.rewindable:
            self._finished = FinishedInput(self._requests, self._folder, self._client.catalog)
            self.report = await aside(self._finished.find) or await _checked(self._requests)
            if self._invalid is None:
                self.report.raise_for_bad_rows()
            self.progress.total = self.report.requests

    async def _record_finished(self) -> None:
        complete = self.progress.succeeded + self.progress.skipped == self._intake.planned
        if self._finished is not None and self.report is not None and not self.report.bad and complete:
            await self._finished.record(self.report, self._recorder.journal)

    async def _begin(self, journal: Journal) -> None:
        self._recorder = RunRecorder(
            journal,
            self._folder,
            budget=self._budget,
            catalog=self._client.catalog,
            progress=self.progress,
            fsync=self._fsync,
        )
        self._resume = Resume(
            journal, self._folder, self._store, policy=self._client.retry, retry_failed=self._retry_failed
        )
        await unbroken(asyncio.to_thread(self._store.sweep))
        if self._redo_damaged:
            await withdraw_damaged(journal, self._folder)
        if self._invalid is not None:
            self._invalid.clear()
        done = not self._tell_skipped and self._finished is not None and await self._finished.holds(journal)
        if done and self.report is not None:
            self.progress.skipped = self.report.requests
        self._intake = Intake(
            self._requests,
            catalog=self._client.catalog,
            journal=journal,
            progress=self.progress,
            invalid=self._invalid,
        )
        stream = Stream(
            self._run,
            () if done else self._intake.tasks(),
            window=self._client.window,
            ordered=self._ordered,
            stop=self._stop,
            immediate=self._skipped,
        )
        await self._recorder.begin(self._stop.stop, self._space)
        self._stream = await stream.__aenter__()

    def _on_stop(self) -> None:
        """Show why nothing more is sent while jobs in flight are finished."""
        if self._stop.cause is not None:
            self.progress.stopping = printable(str(self._stop.cause))

    def _skipped(self, task: Task) -> Outcome | None:
        """Return the outcome of a job that has succeeded in an earlier run, or None."""
        if task.entry.status != Status.SUCCEEDED:
            return None
        outcome = Outcome(request=task.part.request, status=Status.SKIPPED)
        self.progress.count(outcome.status)
        return outcome

    async def _run(self, task: Task) -> Outcome:
        left = await self._resume.left(task)
        outcome = left if isinstance(left, Outcome) else await self._continue(task, left)
        self.progress.count(outcome.status)
        return outcome

    async def _continue(self, task: Task, earlier: Earlier) -> Outcome:
        """Adopt the images of earlier runs, and request the missing ones."""
        request, there = task.part.request, {image.index for image in earlier.images}
        recorder = JobRecorder(self._recorder, task, earlier)
        missing = request.n - len(there)
        if missing:
            await self._space.before_the_first(self._at_first())
        if earlier.found or not missing:
            await recorder.adopt(missing=missing)
        if not missing:
            return Outcome(request=request, status=Status.SKIPPED, images=earlier.images)
        wanted = [index for index in task.part.indices if index not in there | earlier.filtered]
        if not wanted:  # withdrawn files were restored, and the safety filter removed the rest
            outcome = Outcome(request=request, status=Status.PARTIAL, images=earlier.images)
        elif (in_doubt := self._resume.in_doubt(task.entry)) is None:
            outcome = self._resume.still_in_doubt(task, earlier.images)
        else:
            outcome = earlier.with_outcome(await self._request(task, recorder, wanted, in_doubt))
        await recorder.ended(outcome)
        return outcome

    async def _request(self, task: Task, recorder: JobRecorder, wanted: list[int], in_doubt: int) -> Outcome:
        try:
            recorder.job = job = self._client.jobs.job(
                task.part.request,
                store=self._store,
                image_id=task.entry.stem,
                indices=wanted,
                recorder=recorder,
                stop=self._stop,
                sha256=True,
                in_doubt=in_doubt,
                earlier_key=task.entry.idempotency_key,
            )
        except InvalidRequestError as error:  # the source knew other models than the client does
            return Outcome(request=task.part.request, status=Status.FAILED, error=error)
        try:
            return await self._client.jobs.perform(job)
        except ImagenError as error:
            await recorder.interrupted(str(error))
            raise
        except JobStopped:
            await recorder.interrupted("the run ended while the job waited")
            raise NoResult from None

    def _at_first(self) -> int:
        """Return how many images may be in flight before their size is known."""
        permits = self._client.limiter.size
        return permits if self.report is None else min(permits, self.report.images)


async def _checked(source: Source) -> Report:
    left = threading.Event()
    try:
        return await aside(functools.partial(source.check, stopped=left.is_set))
    finally:
        left.set()
