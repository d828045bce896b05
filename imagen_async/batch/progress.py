"""The counters of a batch: `Progress` while it runs, `Summary` afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from imagen_async.outcome import Status

__all__ = ["Progress", "Summary"]


@attrs.define(kw_only=True)
class Progress:
    """The counters of a running batch. Jobs that an earlier run ended without success count again.

    Attributes:
        total: Jobs of the input, or None until its end if it cannot be counted before.
        succeeded: Jobs that succeeded in this run.
        partial: Jobs with fewer images than requested.
        filtered: Jobs without an image because of the safety filter.
        failed: Jobs without an image for another reason.
        in_doubt: Jobs without an image that may have been billed.
        skipped: Jobs that had succeeded in an earlier run.
        images: Images kept in this run.
        bytes: Their size.
        attempts: Requests sent.
        retries: Attempts that followed a failed one.
        doubts: Requests in doubt.
        doubtful_usd: What they may have cost, by list price.
        in_flight: Requests in flight.
        cost_usd: What the images cost, by list price.
        invalid: Rows that were skipped because they are invalid.
        stopping: Why the batch stops before its end, or None.
    """

    total: int | None = None
    succeeded: int = 0
    partial: int = 0
    filtered: int = 0
    failed: int = 0
    in_doubt: int = 0
    skipped: int = 0
    images: int = 0
    bytes: int = 0
    attempts: int = 0
    retries: int = 0
    doubts: int = 0
    doubtful_usd: float = 0.0
    in_flight: int = 0
    cost_usd: float = 0.0
    invalid: int = 0
    stopping: str | None = None

    @property
    def done(self) -> int:
        """Jobs that have ended."""
        return self.succeeded + self.partial + self.filtered + self.failed + self.in_doubt + self.skipped

    def count(self, status: Status) -> None:
        """Count one job that has ended."""
        setattr(self, status, getattr(self, status) + 1)


@attrs.frozen(kw_only=True)
class Summary:
    """The counters of a run, as in `Progress`.

    Attributes:
        jobs: Jobs that have ended.
        elapsed_s: Seconds that the run took.
    """

    jobs: int
    succeeded: int
    partial: int
    filtered: int
    failed: int
    in_doubt: int
    skipped: int
    images: int
    bytes: int
    attempts: int
    cost_usd: float
    elapsed_s: float
    doubts: int = 0
    doubtful_usd: float = 0.0
    invalid: int = 0

    @classmethod
    def of(cls, progress: Progress, *, elapsed_s: float) -> Summary:
        """Return the figures of a run."""
        names = {field.name for field in attrs.fields(cls)}
        counters = attrs.asdict(progress, filter=lambda field, _: field.name in names)
        for name in ("cost_usd", "doubtful_usd"):
            counters[name] = round(counters[name], 6)
        return cls(jobs=progress.done, elapsed_s=round(elapsed_s, 3), **counters)

    @property
    def ok(self) -> bool:
        """Whether every job succeeded, in this run or an earlier one, and every row was valid."""
        return self.succeeded + self.skipped == self.jobs and not self.invalid

    def as_dict(self) -> dict[str, Any]:
        """Return the figures that scripts read, in a fixed order.

        Example:
            >>> list(Summary.of(Progress(), elapsed_s=0.5).as_dict())[:4]
            ['jobs', 'succeeded', 'partial', 'filtered']
        """
        return attrs.asdict(self, filter=lambda field, _: field.name != "invalid")
