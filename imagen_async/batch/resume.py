"""What earlier runs left of a job: its outcome, its images, and whether a further request for it may be sent.

All of it comes from the journal and the files of the folder. Nothing is sent or recorded here.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import attrs

from imagen_async._cancellation import unbroken
from imagen_async.batch.journal import INTERRUPTED, queries
from imagen_async.batch.records import FILTERED_PART, recorded_image
from imagen_async.exceptions import ImagenError
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.stores import ImageName, LocalStore

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from imagen_async.batch.intake import Task
    from imagen_async.batch.journal import Entry, Journal
    from imagen_async.batch.journal.values import Image as JournalImage
    from imagen_async.limiter.backoff import RetryPolicy

__all__ = ["Earlier", "Resume"]

_RETRIED = frozenset({Status.FAILED, Status.IN_DOUBT})


@attrs.frozen
class Earlier:
    """The images of a job that earlier runs brought.

    Attributes:
        recorded: Images in the journal.
        found: Images on disk that a run published and was killed before it recorded them.
        filtered: Places of images that the safety filter removed, while others are requested again.
    """

    recorded: tuple[Image, ...] = ()
    found: tuple[Image, ...] = ()
    filtered: frozenset[int] = frozenset()

    @property
    def images(self) -> tuple[Image, ...]:
        """All of them."""
        return (*self.recorded, *self.found)

    def with_outcome(self, outcome: Outcome) -> Outcome:
        """Return the outcome of this run with the images of earlier runs added."""
        images = tuple(sorted((*self.images, *outcome.images), key=lambda image: image.index))
        if not images or not (self.images or self.filtered):
            return outcome
        return attrs.evolve(
            outcome,
            images=images,
            status=Status.SUCCEEDED if len(images) == outcome.request.n else Status.PARTIAL,
            error=None if outcome.status is Status.FILTERED else outcome.error,
        )


class Resume:
    """Decides how a run continues the jobs of earlier runs.

    Args:
        journal: The journal of the folder.
        folder: The output folder.
        store: Finds files.
        policy: Bounds the requests in doubt, over all runs.
        retry_failed: Whether jobs that failed or are in doubt are retried.
    """

    def __init__(
        self, journal: Journal, folder: Path, store: LocalStore, *, policy: RetryPolicy, retry_failed: bool
    ) -> None:
        self._journal = journal
        self._folder = folder
        self._store = store
        self._policy = policy
        self._retry_failed = retry_failed

    async def left(self, task: Task) -> Earlier | Outcome:
        """Return the images that earlier runs brought of a job, or its outcome if this run leaves the job as it is.

        Raises:
            JournalError: The journal broke.
            StoreError: A file cannot be read.
        """
        status = task.entry.status
        if status is None:  # no run began it, so no file is its own
            return Earlier()
        history = await self._journal.perform(queries.history, task.entry.key)
        recorded, withdrawn = self._images(history.images), self._images(history.withdrawn)
        broke_off = (history.error or {}).get("type") != FILTERED_PART
        known = {image.index for image in recorded}
        damaged = {image.index for image in withdrawn}
        if status == Status.PARTIAL:
            continues = not damaged <= known or (self._retry_failed and broke_off)
        else:
            continues = status == INTERRUPTED or (self._retry_failed and status in _RETRIED)
        if not continues:
            return _reported_again(task, Status(status))
        wanted = [index for index in task.part.indices if index not in known]
        found = await unbroken(asyncio.to_thread(self._find, task.entry, wanted, withdrawn))
        filtered = set(wanted) - damaged if damaged and not broke_off else ()
        return Earlier(recorded, found, frozenset(filtered))

    def in_doubt(self, entry: Entry) -> int | None:
        """Return how many earlier requests count against `on_ambiguous`; None if they forbid another one."""
        if self._retry_failed and entry.status != INTERRUPTED:
            return 0
        if self._policy.may_send_again(ambiguous=entry.in_doubt):
            return entry.in_doubt
        return 0 if self._retry_failed else None

    def still_in_doubt(self, task: Task, images: tuple[Image, ...]) -> Outcome:
        """Return the outcome of an interrupted job for which no further request may be sent."""
        message = (
            "in doubt: a run ended while a request was in flight, and no further one is allowed by "
            f"on_ambiguous={self._policy.on_ambiguous!r}; retry_failed (--retry-failed) sends it again"
        )
        status = Status.PARTIAL if images else Status.IN_DOUBT
        return Outcome(request=task.part.request, status=status, images=images, error=ImagenError(message))

    def _images(self, records: Iterable[JournalImage]) -> tuple[Image, ...]:
        return tuple(recorded_image(record, index=index, folder=self._folder) for index, record in records)

    def _find(self, entry: Entry, wanted: list[int], withdrawn: tuple[Image, ...]) -> tuple[Image, ...]:
        """Find files that an earlier run published and did not record; in a thread."""
        sums = {image.path: image.sha256 for image in withdrawn}
        images: list[Image] = []
        for index in wanted:
            # A withdrawn file counts again if it was restored.
            found = self._store.find(
                ImageName(entry.stem, index),
                unwanted=lambda file: sums.get(file.kept.path, file.sha256) != file.sha256,
            )
            if found is not None:
                facts = attrs.asdict(found.facts)
                images.append(Image(index=index, sha256=found.sha256, path=found.kept.path, **facts))
        return tuple(images)


def _reported_again(task: Task, status: Status) -> Outcome:
    """Return a job's earlier outcome, so that the last run alone shows which jobs did not succeed."""
    again = "; retry_failed retries it" if status in _RETRIED else ""
    error = ImagenError(f"{status} in an earlier run, see errors.jsonl{again}")
    return Outcome(request=task.part.request, status=status, error=None if status is Status.PARTIAL else error)
