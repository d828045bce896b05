"""Read a journal in tests, and replace one of its steps."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from imagen_async.batch.journal import INTENT, Admission, Doubt, Entry, Journal, queries
from imagen_async.batch.journal.admission import admit

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pytest

    from imagen_async.batch.journal import Failure, ListedDoubt

Step = Callable[[], Awaitable[Any]]
"""Performs the step that was replaced."""

__all__ = [
    "Step",
    "admit_one",
    "digest",
    "doubt_of",
    "doubts_in",
    "failures_in",
    "open_journal",
    "readmitted",
    "replace_step",
]


async def doubts_in(journal: Journal) -> list[ListedDoubt]:
    """Return all requests in doubt, oldest first."""
    return (await journal.perform(queries.newest_doubts, 100_000))[::-1]


async def failures_in(journal: Journal) -> list[Failure]:
    """Return the jobs that ended without success, by line."""
    found = await journal.perform(lambda connection: list(queries.failures(connection)))
    return [failure for failure in found if failure.status not in {INTENT, "succeeded"}]


def replace_step(
    monkeypatch: pytest.MonkeyPatch,
    step: Callable[..., Any],
    instead: Callable[[Step], Awaitable[Any]],
) -> None:
    """Make journals await `instead(perform)` for `step`; `perform` performs the step."""
    perform: Callable[..., Awaitable[Any]] = Journal.perform

    async def patched(self: Journal, asked: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if asked is step:
            return await instead(lambda: perform(self, asked, *args, **kwargs))
        return await perform(self, asked, *args, **kwargs)

    monkeypatch.setattr(Journal, "perform", patched)


def digest(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=16).digest()


def doubt_of(attempt: int, *, images: int = 1, usd: float = 0.04) -> Doubt:
    reason = "the read timeout expired"
    return Doubt(attempt=attempt, at=5.0, reason=reason, request_id="req-1", images=images, usd=usd)


async def open_journal(folder: Path) -> Journal:
    return await Journal.open(folder, fsync=False, clock=lambda: 100.0)


async def admit_one(journal: Journal, name: str, *, job_id: str | None = None, line: int = 1, n: int = 1) -> Entry:
    [entry] = await journal.perform(admit, [Admission(digest(name), id=job_id, line=line, n=n)])
    return entry


async def readmitted(folder: Path, names: Sequence[str]) -> list[Entry]:
    async with await open_journal(folder) as journal:
        return await journal.perform(admit, [Admission(digest(name)) for name in names])
