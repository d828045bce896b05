"""A batch: rows in, outcomes out, and a folder that survives ``kill -9``.

It puts the rooms together: `intake` says what is to be done, the client does it, `books` writes it down. What each
state means and when it is durable is the journal's.
"""

from __future__ import annotations

import asyncio
import functools
import threading
import time
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Self

import attrs

from imagen_async._cancellation import unbroken
from imagen_async.batch.disk_space import MIN_FREE, Space
from imagen_async.batch.folder import IMAGES_NAME, INNER_NAME, TEMPORARY_NAME, refuse_links
from imagen_async.batch.intake import Intake, Item, Task
from imagen_async.batch.invalid_rows import InvalidFile
from imagen_async.batch.job_recorder import Earlier, JobRecorder
from imagen_async.batch.journal import INTERRUPTED, Journal
from imagen_async.batch.progress import Progress, Summary
from imagen_async.batch.receipt import Receipt
from imagen_async.batch.recorder import RunRecorder, SpendingCaps
from imagen_async.batch.sources.feed import aside
from imagen_async.batch.sources.source import Report, Source
from imagen_async.batch.verify import withdraw_damaged
from imagen_async.client.stop import JobStopped
from imagen_async.client.stream import NoResult, Stream
from imagen_async.exceptions import ImagenError, InvalidRequestError, printable
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.stores import ImageName, LocalStore

if TYPE_CHECKING:
    import os
    from types import TracebackType

    from imagen_async.batch.journal import Entry
    from imagen_async.client.client import ImagenClient
    from imagen_async.client.job import Job
    from imagen_async.request import ImageRequest

__all__ = ["Batch"]

_RETRIED = frozenset({Status.FAILED, Status.IN_DOUBT})


class Batch(AsyncIterator[Outcome]):
    """Run many requests into a folder; run it again to go on where it stopped.

    Iterate it inside ``async with``; each job gives one outcome. A job that succeeded in an earlier run is ``skipped``;
    any other that ended there is told again as it ended, unless `retry_failed` takes it up.

    Args:
        client: Sends. Its slots are shared with whatever else it does.
        requests: A `Source` from `open_source`, or prompts, requests or rows from an iterable or async iterable. A file
            is checked whole before anything is sent; what comes from elsewhere is checked row by row.
        output: The folder: ``images/``, ``metadata.jsonl``, ``errors.jsonl``, and the journal in ``.imagen/``.
        ordered: Whether outcomes come in the order of the input.
        retry_failed: Whether jobs that failed or are in doubt are tried again, and the images of partial ones that did
            not arrive asked for; what is in doubt may be billed twice.
        redo_damaged: Whether every image of the folder is compared with its record first, and those whose files are
            missing or altered are asked for again. The files are left as they are.
        fsync: Whether what is reported done survives a loss of power, not only of the process.
        max_images: Most images that this folder may ever buy, or None.
        budget: Most US dollars likewise, by list price.
        min_free: Bytes of the disk that are to stay free, besides room for the images under way; before there are
            fewer, the batch stops. 0 for no such watch.
        skip_invalid: Whether rows that are not valid are listed in ``invalid.jsonl`` and skipped.
        tell_skipped: Whether jobs that had succeeded in an earlier run are given out as well. Without them, a file
            whose every job has succeeded is not read row by row again, so that a finished batch is over at once.
        clock: Gives monotonic seconds.

    Attributes:
        progress: Where it stands.
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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._requests = requests
        self._folder = Path(output)
        self._ordered = ordered
        self._retried = _RETRIED if retry_failed else frozenset[Status]()
        self._redo_damaged = redo_damaged
        self._fsync = fsync
        self._spending = SpendingCaps(max_images=max_images, max_usd=budget, catalog=client.catalog)
        self._invalid = InvalidFile(self._folder) if skip_invalid else None
        self._tell_skipped = tell_skipped
        self._clock = clock
        temporary = self._folder / INNER_NAME / TEMPORARY_NAME
        self._store = LocalStore(self._folder / IMAGES_NAME, fsync=fsync, temporary=temporary)
        self._stop = client.stop_scope()
        self._stop.subscribe(self._on_stop)
        self._stream: Stream[Task, Outcome] | None = None
        self._receipt: Receipt | None = None
        self._fine = 0
        """Jobs of which nothing is left to do."""
        self._began = self._ended = 0.0
        self.progress = Progress()
        self.report: Report | None = None
        self._space = Space(self._folder, self.progress, min_free=min_free)

    def __repr__(self) -> str:
        return f"<Batch into {str(self._folder)!r}: {self.progress.done} done>"

    async def __aenter__(self) -> Self:
        """Check the input, take the folder, and begin.

        Raises:
            InvalidInputError: Rows of a file are not valid; nothing was sent.
            ConfigurationError: The input cannot be read, the output is no folder, or it or something in it is a
                symbolic link.
            JournalLockedError: Another run is using the folder.
            JournalError: The journal cannot be used.
            StoreError: The folder cannot be written.
        """
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
        return self

    async def __anext__(self) -> Outcome:
        """Give the next outcome.

        Raises:
            StopAsyncIteration: Every job has ended.
            ImagenError: What stopped the batch (key, model, cap, disk, journal, the first bad row of a pipe), after
                what was in flight has been given out. The folder can be resumed.
        """
        if self._stream is None:
            raise RuntimeError("a batch is iterated inside its own 'async with'")
        outcome = await anext(self._stream)
        while outcome.status is Status.SKIPPED and not self._tell_skipped:
            outcome = await anext(self._stream)
        return outcome

    def drain(self) -> None:
        """Send nothing more; what is in flight is finished and given out, and the rest is left to the next run."""
        if self._stream is not None:
            self._stream.drain()

    async def aclose(self) -> None:
        """Cancel what is in flight, record it as interrupted, bring the files up to date and free the folder.

        A cancellation arrives only when that is done.

        Raises:
            StoreError: A file cannot be written.
            JournalError: The journal broke.
        """
        stream, self._stream = self._stream, None
        if stream is None:
            return
        await unbroken(self._end(stream))

    @property
    def elapsed_s(self) -> float:
        """Seconds since the batch began, until it ended."""
        return (self._ended or self._clock()) - self._began

    @property
    def summary(self) -> Summary:
        """What came of this run so far."""
        return Summary.of(self.progress, elapsed_s=self.elapsed_s)

    async def _end(self, stream: Stream[Task, Outcome]) -> None:
        try:
            await stream.aclose()
            await self._books.settle()
            await self._leave_receipt()
        finally:
            self._ended = self._clock()
            await self._books.journal.close()

    async def _check_input(self) -> None:
        if isinstance(self._requests, Source) and self._requests.rewindable:
            self._receipt = Receipt(self._requests, self._folder, self._client.catalog)
            self.report = await aside(self._receipt.find) or await _checked(self._requests)
            if self._invalid is None:
                self.report.raise_for_bad_rows()
            self.progress.total = self.report.requests

    async def _leave_receipt(self) -> None:
        whole = self.report is not None and not self.report.bad and self._fine == self._intake.planned
        if self._receipt is not None and self.report is not None and whole:
            await self._receipt.leave(self.report, self._books.journal)

    async def _begin(self, journal: Journal) -> None:
        self._books = RunRecorder(
            journal, self._folder, spending=self._spending, progress=self.progress, fsync=self._fsync
        )
        await unbroken(asyncio.to_thread(self._store.sweep))
        if self._redo_damaged:
            await withdraw_damaged(journal, self._folder)
        if self._invalid is not None:
            self._invalid.clear()
        done = not self._tell_skipped and self._receipt is not None and await self._receipt.holds(journal)
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
        await self._books.begin(self._stop.stop, self._space)
        self._stream = await stream.__aenter__()

    def _on_stop(self) -> None:
        """Show why nothing more is sent while what is in flight goes on."""
        if self._stop.cause is not None:
            self.progress.stopping = printable(str(self._stop.cause))

    def _skipped(self, task: Task) -> Outcome | None:
        """Return the outcome of a job that has succeeded in an earlier run, or None."""
        if task.entry.status != Status.SUCCEEDED:
            return None
        outcome = Outcome(request=task.part.request, status=Status.SKIPPED)
        self._count(outcome)
        return outcome

    async def _run(self, task: Task) -> Outcome:
        outcome = await self._already(task)
        if outcome is None:
            # Only a job that an earlier run began can have images that nobody was told of.
            earlier = await self._earlier(task) if task.entry.status is not None else Earlier()
            whole = len(earlier.images) == task.part.request.n
            outcome = await (self._adopt(task, earlier) if whole else self._ask(task, earlier))
        self._count(outcome)
        return outcome

    def _count(self, outcome: Outcome) -> None:
        self.progress.count(outcome.status)
        self._fine += outcome.ok

    async def _already(self, task: Task) -> Outcome | None:
        """Return the outcome of a job that an earlier run has ended for good, or None."""
        status = task.entry.status
        if status is None or status == INTERRUPTED or status in self._retried:
            return None
        if status == Status.PARTIAL and self._retried and await self._books.broke_off(task.entry):
            return None
        if status == Status.PARTIAL and await self._books.lacks_withdrawn(task.entry):
            return None
        # What did not succeed is told again: who looks at the last run alone must not take it for done.
        again = "; retry_failed tries it again" if status in _RETRIED else ""
        earlier = ImagenError(f"{status} in an earlier run, see errors.jsonl{again}")
        return Outcome(
            request=task.part.request, status=Status(status), error=None if status == Status.PARTIAL else earlier
        )

    async def _earlier(self, task: Task) -> Earlier:
        recorded = await self._books.earlier(task.entry)
        known = {image.index for image in recorded}
        wanted = [index for index in task.part.indices if index not in known]
        withdrawn = await self._books.withdrawn(task.entry)
        filtered = set(wanted) - {image.index for image in withdrawn}
        if not withdrawn or await self._books.broke_off(task.entry):
            filtered = set()
        found = await unbroken(asyncio.to_thread(self._find, task, wanted, withdrawn))
        return Earlier(recorded, found, frozenset(filtered))

    def _find(self, task: Task, wanted: list[int], withdrawn: tuple[Image, ...]) -> tuple[Image, ...]:
        """Find files that an earlier run committed and did not live to record; in a thread."""
        sums = {image.path: image.sha256 for image in withdrawn}
        images: list[Image] = []
        for index in wanted:
            # A file that was withdrawn counts again if it has been put back as it was.
            found = self._store.find(
                ImageName(task.entry.stem, index),
                unwanted=lambda file: sums.get(file.kept.path, file.sha256) != file.sha256,
            )
            if found is not None:
                facts = attrs.asdict(found.facts)
                images.append(Image(index=index, sha256=found.sha256, path=found.kept.path, **facts))
        return tuple(images)

    async def _adopt(self, task: Task, earlier: Earlier) -> Outcome:
        await self._books.adopt(task.part, task.entry, earlier.found)
        return Outcome(request=task.part.request, status=Status.SKIPPED, images=earlier.images)

    async def _ask(self, task: Task, earlier: Earlier) -> Outcome:
        """Ask for what is missing, and put it together with what is there."""
        await self._space.before_the_first(self._at_first())
        request, there = task.part.request, {image.index for image in earlier.images}
        if earlier.found:
            await self._books.adopt(task.part, task.entry, earlier.found, missing=request.n - len(there))
        witness = JobRecorder(self._books, task.part, task.entry, earlier)
        if (in_doubt := self._in_doubt(task.entry)) is None:
            outcome = _still_in_doubt(request, earlier.images, self._client.retry.on_ambiguous)
            await witness.ended(outcome)
            return outcome
        wanted = [index for index in task.part.indices if index not in there | earlier.filtered]
        if not wanted:  # what was withdrawn is back, and the safety filter took the rest
            outcome = Outcome(request=request, status=Status.PARTIAL, images=earlier.images)
            await witness.ended(outcome)
            return outcome
        try:
            job = self._client.job(
                request,
                store=self._store,
                image_id=task.entry.stem,
                indices=wanted,
                recorder=witness,
                stop=self._stop,
                sha256=True,
                in_doubt=in_doubt,
                earlier_key=task.entry.idempotency_key,
            )
        except InvalidRequestError as error:  # the source knew other models than the client does
            outcome = Outcome(request=request, status=Status.FAILED, error=error)
        else:
            outcome = _together(earlier, await self._perform(job, witness))
        await witness.ended(outcome)
        return outcome

    def _in_doubt(self, entry: Entry) -> int | None:
        """Return how many earlier requests count against `on_ambiguous`; None if they forbid another one."""
        if self._retried and entry.status != INTERRUPTED:
            return 0
        if self._client.retry.may_send_again(ambiguous=entry.in_doubt):
            return entry.in_doubt
        return 0 if self._retried else None

    def _at_first(self) -> int:
        """Return how many images may be under way before it is known how large they are."""
        slots = self._client.limiter.size
        return slots if self.report is None else min(slots, self.report.images)

    async def _perform(self, job: Job, witness: JobRecorder) -> Outcome:
        try:
            return await self._client.perform(job)
        except ImagenError as error:
            await witness.interrupted(str(error), job.images)
            raise
        except JobStopped:
            await witness.interrupted("the run ended while the job waited", job.images)
            raise NoResult from None
        except asyncio.CancelledError:
            witness.keep(job.images)
            raise


async def _checked(source: Source) -> Report:
    left = threading.Event()
    try:
        return await aside(functools.partial(source.check, stopped=left.is_set))
    finally:
        left.set()


def _still_in_doubt(request: ImageRequest, images: tuple[Image, ...], on_ambiguous: str) -> Outcome:
    message = (
        "in doubt: a run ended while a request was in flight, and no further one is allowed by "
        f"on_ambiguous={on_ambiguous!r}; retry_failed (--retry-failed) sends it again"
    )
    status = Status.PARTIAL if images else Status.IN_DOUBT
    return Outcome(request=request, status=status, images=images, error=ImagenError(message))


def _together(earlier: Earlier, outcome: Outcome) -> Outcome:
    """Put the images of earlier runs to those of this one."""
    images = tuple(sorted((*earlier.images, *outcome.images), key=lambda image: image.index))
    if not images or not (earlier.images or earlier.filtered):
        return outcome
    filtered = outcome.status is Status.FILTERED
    return attrs.evolve(
        outcome,
        images=images,
        status=Status.SUCCEEDED if len(images) == outcome.request.n else Status.PARTIAL,
        error=None if filtered else outcome.error,
    )
