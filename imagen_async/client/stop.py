"""The stop scope: the one place that decides what stops everything, and that stops it.

A job with a request in flight may cost money and is finished; a job that waits, for a permit or for the end of its
backoff, costs nothing. When nothing more is to be sent, the waiting jobs of a scope are stopped together, and whatever
reads the scope's source is told to read no further.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self

from imagen_async.exceptions import FailureClass, ImagenError, JournalError, LimitReachedError, OutageError, StoreError
from imagen_async.wire.errors import failure_class

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from imagen_async.outcome import Outcome

__all__ = ["JobStopped", "StopScope", "StoppableWait", "stops_everything"]

_STOPPING = (LimitReachedError, StoreError, JournalError, OutageError)


def stops_everything(error: ImagenError) -> bool:
    """Return whether no other job can succeed: the key, model, gateway, a cap, the disk or the journal failed."""
    return isinstance(error, _STOPPING) or failure_class(error) is FailureClass.FATAL


class JobStopped(Exception):  # noqa: N818 - not an error: a stop was asked for
    """The job was stopped before its next request left.

    Args:
        outcome: What came of it so far; None if nothing was ever sent for it.
    """

    def __init__(self, outcome: Outcome | None = None) -> None:
        super().__init__()
        self.outcome = outcome


class StopScope:
    """The jobs that stop together.

    Attributes:
        stopped: Whether they were stopped; a job that starts to wait afterwards is stopped immediately.
        cause: The first error for which they were stopped, or None.
        forbids_sending: Whether not even a request whose intent is recorded may leave; a cap has room for all of those.
        waiting: The waits that a stop ends.
    """

    __slots__ = ("_callbacks", "cause", "forbids_sending", "stopped", "waiting")

    def __init__(self) -> None:
        self._callbacks: list[Callable[[], object]] = []
        self.stopped = False
        self.cause: BaseException | None = None
        self.forbids_sending = False
        self.waiting: set[StoppableWait] = set()

    def subscribe(self, callback: Callable[[], object]) -> None:
        """Call `callback` when the scope stops, and once more if a cause becomes known only later."""
        self._callbacks.append(callback)

    def stop(self, cause: BaseException | None = None) -> None:
        """Stop every job that waits, and from now on each that starts to wait."""
        news = not self.stopped or (self.cause is None and cause is not None)
        self.stopped = True
        self.cause = self.cause or cause
        self.forbids_sending = self.cause is not None and not isinstance(self.cause, LimitReachedError)
        waiting, self.waiting = self.waiting, set()
        for each in waiting:
            each.cancel()
        for callback in self._callbacks if news else ():
            callback()

    def stop_if_fatal(self, error: ImagenError) -> None:
        """Stop for an error after which no other job can succeed."""
        if stops_everything(error):
            self.stop(error)


class StoppableWait:
    """The waits of one job, as ``with`` around the whole job; a stop ends it between `begin` and `end`.

    Args:
        scope: Stops it.

    Raises:
        JobStopped: On leaving the ``with``, if a stop ended a wait.
    """

    __slots__ = ("_cancelled", "_cancelling", "_scope", "_task")

    def __init__(self, scope: StopScope) -> None:
        self._scope = scope
        self._task: asyncio.Task[object] | None = None
        self._cancelling = 0
        self._cancelled = False

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._cancelling = self._task.cancelling() if self._task is not None else 0
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        # As in `asyncio.timeout`: a cancellation that another caller requested as well is that caller's.
        ours = self._cancelled and self._task is not None and self._task.uncancel() <= self._cancelling
        if ours and isinstance(error, asyncio.CancelledError):
            raise JobStopped from None

    def begin(self) -> None:
        """Start to wait.

        Raises:
            JobStopped: The scope is stopped.
        """
        if self._scope.stopped:
            raise JobStopped
        self._scope.waiting.add(self)

    def end(self) -> None:
        """Stop waiting: a request leaves."""
        self._scope.waiting.discard(self)

    def cancel(self) -> None:
        """Cancel the task that runs the job."""
        if self._task is not None:
            self._cancelled = True
            self._task.cancel()
