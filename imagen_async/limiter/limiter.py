"""Limiter: permits to send, one request each.

A permit bounds the requests in flight: a job holds it while its request is in flight, and not while it backs off. It is
granted when the client's own size and rates allow a request, and so does the limiter that all clients of the key share.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async.exceptions import ConfigurationError
from imagen_async.limiter.permit import Verdict
from imagen_async.limiter.shared import Lease
from imagen_async.limiter.spacing import Spacing

if TYPE_CHECKING:
    from collections.abc import Callable

    from imagen_async.exceptions import ImagenError
    from imagen_async.limiter.shared import SharedLimiter

__all__ = ["Lease", "Limiter", "NoTimeLeft", "PaceState"]

_CLOSED = "the client was closed while a job was running"


class NoTimeLeft(Exception):  # noqa: N818 - not an error: the caller gave the deadline
    """The gateway's pause ends after the caller's deadline."""


@attrs.frozen(kw_only=True)
class PaceState:
    """Current limits, learned from the gateway's refusals.

    Attributes:
        limit: Requests that may be in flight.
        rate: Requests that may leave in a second; infinity if no limit is known.
        paused_s: Seconds until the end of a pause that the gateway asked for; 0 without a pause.
        waiting: Whether the gateway does not respond, and only probes are sent.
    """

    limit: int
    rate: float = math.inf
    paused_s: float = 0.0
    waiting: bool = False


@attrs.frozen
class _Waiter:
    lease: asyncio.Future[Lease]
    images: int
    deadline: float


class Limiter:
    """The permits of one client.

    Args:
        size: Most requests in flight.
        rpm: Most requests a minute, evenly spaced, or None.
        images_per_minute: Most images requested in a minute, evenly spaced, or None.
        shared: Returns the shared limiter of the running event loop; called once for each loop.
        clock: Returns monotonic seconds.
        on_paused: Called with the seconds of a pause that the gateway asked for.
        on_throttled: Called when a limit was lowered.
    """

    def __init__(
        self,
        size: int,
        *,
        rpm: float | None = None,
        images_per_minute: float | None = None,
        shared: Callable[[], SharedLimiter],
        clock: Callable[[], float],
        on_paused: Callable[[float], object] | None = None,
        on_throttled: Callable[[], object] | None = None,
    ) -> None:
        self.size = size
        self.in_flight = 0
        self._waiting: deque[_Waiter] = deque()
        self._rate = None if rpm is None else Spacing(rpm)
        self._image_rate = None if images_per_minute is None else Spacing(images_per_minute)
        self._make_shared = shared
        self._clock = clock
        self._on_paused = on_paused
        self._on_throttled = on_throttled
        self._shared: SharedLimiter | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<Limiter {self.in_flight} of {self.size} in flight>"

    @property
    def shared(self) -> SharedLimiter:
        """The shared limiter of the running event loop."""
        return self.join()

    @property
    def pace(self) -> PaceState:
        """Current limits; may be read in any thread."""
        shared = self._shared
        if shared is None:
            return PaceState(limit=self.size)
        return PaceState(
            limit=min(self.size, shared.pacer.limit),
            rate=shared.pacer.rate,
            paused_s=shared.paused(),
            waiting=shared.circuit.open,
        )

    def join(self) -> SharedLimiter:
        """Join the clients of the same key in the running event loop; the first request does so otherwise.

        Raises:
            ConfigurationError: The client is closed.
        """
        if self._closed:
            raise ConfigurationError(_CLOSED)
        loop = asyncio.get_running_loop()
        if self._shared is None or self._loop is not loop:
            self._loop, self._shared = loop, self._make_shared()
            self._shared.join(self)
        return self._shared

    def close(self) -> None:
        """Leave the clients of the same key for good; the jobs that wait for a permit fail."""
        self._closed = True
        self.refuse(ConfigurationError(_CLOSED))
        shared, self._shared = self._shared, None
        if shared is not None:
            shared.leave(self)
            shared.serve()  # without waiting jobs there must be no timer

    def snapshot(self) -> dict[str, Any]:
        """Return what waits and what is in flight, by the names of `ClientSnapshot`."""
        shared = self._shared
        return {
            "in_flight": self.in_flight,
            "waiting": sum(not waiter.lease.done() for waiter in self._waiting),
            "shared_in_flight": 0 if shared is None else shared.in_flight,
            "shared_waiting": 0 if shared is None else shared.waiting,
            "timers": 0 if shared is None else shared.timers,
            "probing": False if shared is None else shared.circuit.probing,
        }

    async def acquire(self, *, images: int = 1, deadline: float = math.inf) -> Lease:
        """Wait for the permit to send one request; enter it with ``with`` immediately.

        Args:
            images: How many images the request asks for.
            deadline: When it is too late to send it, in the clock's seconds.

        Raises:
            NoTimeLeft: The gateway's pause ends after the deadline.
            OutageError: The gateway does not respond, and the retry quota is used up.
            ConfigurationError: The pacer broke its contract, or the client is closed.
        """
        loop = asyncio.get_running_loop()
        shared = self._shared
        if shared is None or self._loop is not loop:
            shared = self.join()
        if deadline < math.inf and deadline < self._clock() + shared.paused():
            raise NoTimeLeft
        lease: asyncio.Future[Lease] = loop.create_future()
        self._waiting.append(_Waiter(lease, images, deadline))
        shared.serve(self)
        try:
            # A permit that is granted immediately needs no turn of the event loop.
            return lease.result() if lease.done() else await lease
        except asyncio.CancelledError:
            if lease.done() and not lease.cancelled() and lease.exception() is None:
                lease.result().release(Verdict.NOTHING)
            else:
                shared.serve()  # without waiting jobs there must be no timer
            raise

    # -- for `SharedLimiter` --------------------------------------------------------------------------------------

    def wait(self, *, now: float) -> float | None:
        """Return the seconds until the client's own limits allow a request; None if no job is waiting.

        Infinity if a request of this client has to end first.
        """
        while self._waiting and self._waiting[0].lease.done():
            self._waiting.popleft()  # cancelled
        if not self._waiting:
            return None
        if self.in_flight >= self.size:
            return math.inf
        wait = 0.0 if self._rate is None else self._rate.wait(now=now)
        return wait if self._image_rate is None else max(wait, self._image_rate.wait(now=now))

    def grant(self, lease: Lease, *, now: float) -> None:
        """Let the first waiting job send."""
        first = self._waiting.popleft()
        self.in_flight += 1
        if self._rate is not None:
            self._rate.take(now=now)
        if self._image_rate is not None:
            self._image_rate.take(first.images, now=now)
        first.lease.set_result(lease)

    def refuse(self, error: ImagenError) -> None:
        """Fail every waiting job."""
        for waiter in self._removed():
            waiter.lease.set_exception(type(error)(error.message))  # one each: raising an error adds a traceback

    def paused(self, seconds: float, *, now: float) -> None:
        """Fail the waiting jobs whose deadline is before the end of a pause."""
        for waiter in self._removed(before=now + seconds):
            waiter.lease.set_exception(NoTimeLeft())
        if self._on_paused is not None:
            self._on_paused(seconds)

    def throttled(self) -> None:
        """Report that a limit was lowered."""
        if self._on_throttled is not None:
            self._on_throttled()

    def _removed(self, *, before: float | None = None) -> list[_Waiter]:
        """Remove the waiting jobs whose deadline is earlier; without `before` all."""
        removed: list[_Waiter] = []
        kept: deque[_Waiter] = deque()
        for waiter in self._waiting:
            if not waiter.lease.done():
                (removed if before is None or waiter.deadline < before else kept).append(waiter)
        self._waiting = kept
        return removed
