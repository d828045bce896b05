"""Limiter: permission to send, one request each.

A slot bounds the attempts in flight; it is held while a request is under way and not while its job backs off. Who has
one may send now: the client's own size and rates allow it, and so does the pool of all clients that use the same key.
The arithmetic is `pacing`'s; this module only waits.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any, Self

import attrs

from imagen_async.exceptions import OutageError
from imagen_async.limiter.permit import Verdict
from imagen_async.limiter.shared import SharedPermit
from imagen_async.limiter.spacing import Spacing

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from imagen_async.limiter.shared import SharedLimiter

__all__ = ["Lease", "Limiter", "NoTimeLeft", "PaceState"]


class NoTimeLeft(Exception):  # noqa: N818 - it is no error: the caller asked to be told
    """The gateway wants everybody to stay away beyond the time that was given to wait."""


@attrs.frozen(kw_only=True)
class PaceState:
    """How fast may be sent at the moment.

    Attributes:
        limit: Requests that may be in flight.
        rate: Requests a second that may leave; infinity where nothing limits them.
        paused_s: Seconds until the gateway lets anybody send; 0 if it does.
        waiting: Whether the gateway does not answer, and only probes are sent.
    """

    limit: int
    rate: float = math.inf
    paused_s: float = 0.0
    waiting: bool = False


@attrs.frozen
class _Waiting:
    """One who waits for a slot: for how many images, and until when."""

    permit: asyncio.Future[SharedPermit]
    images: int
    deadline: float


class Limiter:
    """The slots of one client.

    Args:
        size: Most requests in flight.
        rpm: Most requests a minute, evenly spaced, or None.
        images_per_minute: Most images asked for in a minute, likewise, or None.
        pool: Gives the pool of the running event loop; called once for each loop.
        clock: Gives monotonic seconds.
        on_paused: Called with the seconds when the gateway makes everybody wait.
        on_throttled: Called when the gateway takes less than was thought.
    """

    def __init__(
        self,
        size: int,
        *,
        rpm: float | None = None,
        images_per_minute: float | None = None,
        pool: Callable[[], SharedLimiter],
        clock: Callable[[], float],
        on_paused: Callable[[float], object] | None = None,
        on_throttled: Callable[[], object] | None = None,
    ) -> None:
        self.size = size
        self.in_flight = 0
        self._waiting: deque[_Waiting] = deque()
        self._rate = None if rpm is None else Spacing(rpm)
        self._image_rate = None if images_per_minute is None else Spacing(images_per_minute)
        self._make_pool = pool
        self._clock = clock
        self._on_paused = on_paused
        self._on_throttled = on_throttled
        self._pool: SharedLimiter | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Limiter {self.in_flight} of {self.size} in flight>"

    @property
    def shared(self) -> SharedLimiter:
        """What this client shares in the running event loop."""
        return self.join()

    @property
    def pace(self) -> PaceState:
        """How fast may be sent at the moment; may be asked from any thread."""
        pool = self._pool
        if pool is None:
            return PaceState(limit=self.size)
        return PaceState(
            limit=min(self.size, pool.pacer.limit),
            rate=pool.pacer.rate,
            paused_s=pool.paused(),
            waiting=pool.circuit.open,
        )

    def close(self) -> None:
        """Leave the pool: its other clients are not to count on this one."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.leave(self)

    async def acquire(self, *, images: int = 1, deadline: float = math.inf) -> Lease:
        """Wait for permission to send one request; to be used, at once, with ``with``.

        Args:
            images: How many it asks for.
            deadline: When there is no point in sending it any more, in the clock's seconds.

        Raises:
            NoTimeLeft: The gateway wants everybody to stay away beyond the deadline.
            OutageError: The gateway does not answer, and no retry is left to find out whether it does again.
        """
        loop = asyncio.get_running_loop()
        pool = self.join()
        if deadline < self._clock() + pool.paused():
            raise NoTimeLeft
        permit: asyncio.Future[SharedPermit] = loop.create_future()
        self._waiting.append(_Waiting(permit, images, deadline))
        pool.queue(self)
        try:
            # What can be had at once is had without a turn of the loop.
            return Lease(self, permit.result() if permit.done() else await permit)
        except asyncio.CancelledError:
            if permit.done() and not permit.cancelled() and permit.exception() is None:
                Lease(self, permit.result()).release(Verdict.NOTHING)
            else:
                pool.serve()  # nobody may be left whom it would have to wake
            raise

    def join(self) -> SharedLimiter:
        """Join the clients of the same key in the running event loop; the first request does so otherwise."""
        loop = asyncio.get_running_loop()
        if self._pool is None or self._loop is not loop:
            self._loop, self._pool = loop, self._make_pool()
            self._pool.join(self)
        return self._pool

    def snapshot(self) -> dict[str, Any]:
        """Return what waits and what is in flight, by the names of `ClientSnapshot`."""
        shared = self._pool
        return {
            "in_flight": self.in_flight,
            "waiting": sum(not waiting.permit.done() for waiting in self._waiting),
            "shared_in_flight": 0 if shared is None else getattr(shared.pacer, "in_flight", 0),
            "shared_waiting": 0 if shared is None else shared.waiting,
            "timers": 0 if shared is None else shared.timers,
            "probing": False if shared is None else shared.circuit.probing,
        }

    # -- for the pool ---------------------------------------------------------------------------------------------

    def asks(self) -> bool:
        """Say whether anybody waits; who was cancelled does not."""
        while self._waiting and self._waiting[0].permit.done():
            self._waiting.popleft()
        return bool(self._waiting)

    def wait(self, *, now: float) -> float:
        """Return the seconds until this client may send, as far as it is concerned; infinity if one must end first."""
        if self.in_flight >= self.size:
            return math.inf
        return max((rate.wait(now=now) for rate in (self._rate, self._image_rate) if rate is not None), default=0.0)

    def give(self, permit: SharedPermit, *, now: float) -> None:
        """Let the first that waits send."""
        first = self._waiting.popleft()
        self.in_flight += 1
        if self._rate is not None:
            self._rate.take(now=now)
        if self._image_rate is not None:
            self._image_rate.take(first.images, now=now)
        first.permit.set_result(permit)

    def refuse(self, error: OutageError) -> None:
        """Tell everybody who waits that it is in vain."""
        for waiting in self._taken(lambda _: True):
            # Of one's own: a traceback belongs to whoever raises it.
            waiting.permit.set_exception(OutageError(error.message))

    def paused(self, seconds: float, *, now: float) -> None:
        """Tell whoever has no time to wait for so long."""
        for waiting in self._taken(lambda waiting: waiting.deadline < now + seconds):
            waiting.permit.set_exception(NoTimeLeft())
        if self._on_paused is not None:
            self._on_paused(seconds)

    def throttled(self) -> None:
        """Pass on that the gateway takes less than was thought."""
        if self._on_throttled is not None:
            self._on_throttled()

    def _taken(self, wanted: Callable[[_Waiting], bool]) -> list[_Waiting]:
        """Take those who wait and are wanted out of the queue."""
        everybody = [waiting for waiting in self._waiting if not waiting.permit.done()]
        taken = [waiting for waiting in everybody if wanted(waiting)]
        self._waiting = deque(waiting for waiting in everybody if not wanted(waiting))
        return taken

    def end(
        self, permit: SharedPermit, verdict: Verdict, *, retry_after: float | None, paid: int, failure: str | None
    ) -> None:
        """Take a slot back; see `Lease.end`."""
        self.in_flight -= 1
        # Its own pool: we may have left that, or be in another event loop by now.
        permit.pool.ended(permit, verdict, retry_after=retry_after, paid=paid, failure=failure)


class Lease:
    """Permission to send one request, as ``with``; from `Limiter.take`."""

    __slots__ = ("_permit", "_slots")

    def __init__(self, slots: Limiter, permit: SharedPermit) -> None:
        self._slots = slots
        self._permit: SharedPermit | None = permit

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(Verdict.NOTHING)

    def paused(self) -> float:
        """Return the seconds until the gateway lets anybody send, who has a slot included; 0 if it does."""
        return 0.0 if self._permit is None else self._permit.pool.paused()

    def release(
        self,
        verdict: Verdict,
        *,
        retry_after: float | None = None,
        paid: int = 0,
        failure: str | None = None,
    ) -> None:
        """Give it back and say what became of the request; what is said first counts."""
        permit, self._permit = self._permit, None
        if permit is not None:
            self._slots.end(permit, verdict, retry_after=retry_after, paid=paid, failure=failure)
