"""Counting: where a batch stands while it runs, and what came of it.

Plain counters that the batch keeps and anyone may read; the batch never reads them to decide anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

if TYPE_CHECKING:
    from imagen_async.outcome import Status

__all__ = ["Progress", "Summary"]


@attrs.define(kw_only=True)
class Progress:
    """Where a batch stands.

    Attributes:
        total: Jobs to expect, or None while the input has not been read to its end and cannot be counted.
        succeeded: Jobs that ended so in this run.
        partial: Jobs with fewer images than asked, in this run or left so by an earlier one.
        filtered: Likewise, with none, by the safety filter.
        failed: Likewise, with none, for another reason.
        in_doubt: Likewise, but perhaps billed.
        skipped: Jobs that had succeeded in an earlier run.
        images: Images kept in this run.
        bytes: Their size.
        attempts: Requests sent.
        retries: Attempts that followed a failed one.
        doubts: Requests that may have been billed and brought no image.
        doubtful_usd: What they may have cost, by list price.
        in_flight: Requests under way.
        cost_usd: What the images cost, by list price.
        invalid: Rows that were skipped because they are not valid.
        stopping: Why nothing more is sent although there is more to do; None as long as it goes on.
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
        """Jobs that have ended, in whatever way."""
        return self.succeeded + self.partial + self.filtered + self.failed + self.in_doubt + self.skipped

    def count(self, status: Status) -> None:
        """Count one job that has ended."""
        name = status.value
        setattr(self, name, getattr(self, name) + 1)


@attrs.frozen(kw_only=True)
class Summary:
    """What came of a batch in this run; the attributes are those of `Progress`.

    Attributes:
        jobs: Jobs that have ended, in whatever way.
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
        """Sum up a run."""
        counters = attrs.asdict(progress)
        for name in ("total", "retries", "in_flight", "stopping"):
            del counters[name]
        counters["cost_usd"] = round(progress.cost_usd, 6)
        counters["doubtful_usd"] = round(progress.doubtful_usd, 6)
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
        names = (
            "jobs", "succeeded", "partial", "filtered", "failed", "in_doubt", "skipped",
            "images", "bytes", "attempts", "cost_usd", "elapsed_s", "doubts", "doubtful_usd",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}
