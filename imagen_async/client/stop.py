"""Letting go of the jobs that only wait: for a slot, or for the end of their backoff.

A job with a request in flight may cost money and is finished; one that waits costs nothing. When nothing more is to be
sent, the jobs of a stream or a batch that wait are withdrawn together, and none of them can slip out.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

__all__ = ["JobStopped", "StopScope", "Waiting"]


class JobStopped(Exception):  # noqa: N818 - it is no error: somebody asked for it
    """The job was let go before its next request left."""


class StopScope:
    """The jobs that can be withdrawn together.

    Args:
        on_cause: Called with the first error that they are withdrawn for, at once.

    Attributes:
        withdrawn: Whether they have been; who comes to wait afterwards is withdrawn at once.
        cause: What they were withdrawn for first, if it is an error.
        waiting: Those that wait now.
    """

    __slots__ = ("_on_cause", "cause", "waiting", "withdrawn")

    def __init__(self, on_cause: Callable[[BaseException], object] | None = None) -> None:
        self._on_cause = on_cause
        self.withdrawn = False
        self.cause: BaseException | None = None
        self.waiting: set[Waiting] = set()

    def withdraw(self, cause: BaseException | None = None) -> None:
        """Let every job go that waits, and from now on each that comes to wait."""
        self.withdrawn = True
        first = self.cause is None
        self.cause = self.cause or cause
        waiting, self.waiting = self.waiting, set()
        for each in waiting:
            each.let_go()
        if first and cause is not None and self._on_cause is not None:
            self._on_cause(cause)

    def covering(self) -> Waiting:
        """Follow a job that the current task runs, with ``with``."""
        return Waiting(self)


class Waiting:
    """One job, as far as it can be withdrawn; it counts as waiting from `begin` to `end`.

    Raises:
        JobStopped: On leaving the ``with``, if the job was let go.
    """

    __slots__ = ("_cancelling", "_let_go", "_task", "_withdrawal")

    def __init__(self, withdrawal: StopScope) -> None:
        self._withdrawal = withdrawal
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._let_go = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        # As in `asyncio.timeout`: a cancellation that somebody else asked for as well is theirs.
        ours = self._let_go and self._task is not None and self._task.uncancel() <= self._cancelling
        if ours and isinstance(error, asyncio.CancelledError):
            raise JobStopped from None

    def begin(self) -> None:
        """Count as waiting.

        Raises:
            JobStopped: Nobody is to wait any more.
        """
        if self._withdrawal.withdrawn:
            raise JobStopped
        self._withdrawal.waiting.add(self)

    def end(self) -> None:
        """Count as waiting no more: a request leaves."""
        self._withdrawal.waiting.discard(self)

    def let_go(self) -> None:
        """Cancel the task that runs it."""
        if self._task is not None:
            self._let_go = True
            self._task.cancel()
