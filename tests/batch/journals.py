"""Read a journal in tests, and replace one of its steps."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from imagen_async.batch.journal import INTENT, Journal, queries

if TYPE_CHECKING:
    import pytest

    from imagen_async.batch.journal import Failure, ListedDoubt

Step = Callable[[], Awaitable[Any]]
"""Performs the step that was replaced."""

__all__ = ["Step", "doubts_in", "failures_in", "replace_step"]


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
