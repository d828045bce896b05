"""What all clients of one key share in an event loop: the pacer, the circuit, and one queue for permits.

The pacer, the circuit and each client's own limits decide when a request may leave; this module waits for them, and
grants permits to the clients in turn.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Protocol, Self

import attrs

from imagen_async.exceptions import ConfigurationError, ImagenError, OutageError
from imagen_async.limiter.circuit import Circuit
from imagen_async.limiter.controller import Controller
from imagen_async.limiter.permit import Permit, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable
    from types import TracebackType

    from imagen_async.limiter.circuit import RetryQuota
    from imagen_async.limiter.pacer import Pacer

__all__ = ["Lease", "Member", "SharedLimiter", "shared_limiter"]

_SHORTEST_SLEEP = 1e-6
"""Seconds: a wait that is too short for the clock's resolution would never end."""
_LONGEST_WAIT = 86_400.0
"""Seconds after which a pacer is asked again at the latest."""


class Member(Protocol):
    """A client, as the clients of its key see it."""

    size: int
    in_flight: int

    def wait(self, *, now: float) -> float | None:
        """Return the seconds until the client's own limits allow a request; None if none of its jobs is waiting."""

    def grant(self, lease: Lease, *, now: float) -> None:
        """Let the first waiting job send."""

    def refuse(self, error: ImagenError) -> None:
        """Fail every waiting job."""

    def paused(self, seconds: float, *, now: float) -> None:
        """Handle a pause of so many seconds: fail the waiting jobs whose deadline is earlier."""

    def throttled(self) -> None:
        """Handle a limit that was lowered."""


@attrs.define(eq=False)
class Lease:
    """A permit while a client holds it: as ``with`` around one request.

    Attributes:
        holder: The client.
        shared: Granted the permit, and takes it back.
        permit: The pacer's permit.
    """

    holder: Member
    shared: SharedLimiter
    permit: Permit
    _released: bool = attrs.field(default=False, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release(Verdict.NOTHING)

    def paused(self) -> float:
        """Return the seconds until the gateway accepts requests again, even with a permit; 0 if it does now."""
        return self.shared.paused()

    def release(
        self,
        verdict: Verdict,
        *,
        retry_after: float | None = None,
        paid: int = 0,
        failure: str | None = None,
    ) -> None:
        """Return the permit with the result of its request; only the first call counts. See `SharedLimiter.ended`."""
        if not self._released:
            self._released = True
            self.holder.in_flight -= 1
            self.shared.ended(self, verdict, retry_after=retry_after, paid=paid, failure=failure)


class SharedLimiter:
    """One queue for the clients of a key.

    Args:
        pacer: Decides when the gateway accepts another request.
        quota: Retry budget.
        clock: Returns monotonic seconds.
        sleep: Waits for some seconds.

    Attributes:
        in_flight: Requests in flight of all clients.
    """

    def __init__(
        self,
        *,
        pacer: Pacer | None = None,
        quota: RetryQuota | None = None,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self.pacer: Pacer = Controller() if pacer is None else pacer
        self.circuit = Circuit(quota)
        self.in_flight = 0
        self._clock = clock
        self._sleep = sleep
        self._members: weakref.WeakSet[Member] = weakref.WeakSet()
        self._queue: deque[Member] = deque()
        """The clients with waiting jobs; the client that was granted a permit last is at the end."""
        self._timer: asyncio.Task[None] | None = None
        """Sleeps until the next permit is due."""
        self._due = 0.0
        self._probe: Lease | None = None
        """The probe of the current outage; a probe of an earlier outage says nothing about this one."""
        self._last_failure = ""

    def __repr__(self) -> str:
        return f"<SharedLimiter of {len(self._members)} clients: {self.pacer!r}, {self.circuit!r}>"

    @property
    def waiting(self) -> int:
        """How many clients have a job that waits for a permit."""
        return len(self._queue)

    @property
    def timers(self) -> int:
        """How many timers are set: one while a permit is due later, otherwise none."""
        return int(self._timer is not None)

    def join(self, member: Member) -> None:
        """Add a client."""
        self._members.add(member)
        self._resize()

    def leave(self, member: Member) -> None:
        """Remove a client."""
        self._members.discard(member)
        self._resize()

    def _resize(self) -> None:
        self.pacer.allow(max(1, sum(member.size for member in self._members)))

    def pay(self, *, timed_out: bool) -> int:
        """Pay for a retry; see `Circuit.pay`."""
        return self.circuit.pay(timed_out=timed_out, now=self._clock())

    def paused(self) -> float:
        """Return the seconds until the gateway accepts requests again; 0 if it does now."""
        return max(0.0, self.pacer.until - self._clock())

    def serve(self, asking: Member | None = None) -> None:
        """Grant each permit that may be granted now, and set the timer for the next one.

        Args:
            asking: A client with a job that has just started to wait.
        """
        if asking is not None and asking not in self._queue:
            self._queue.append(asking)
        now, wait = self._clock(), 0.0
        while self._queue and not wait:
            member, wait = self._next(now)
            if member is not None:
                wait = self.circuit.wait(now=now) or self._grant(member, now)
        if self._queue and self.circuit.lost(now=now):
            self._refuse(self._outage(now))
        due = now + wait if self._queue and wait < math.inf else None
        if due is not None or self._timer is not None:
            self._set_timer(due)

    def ended(
        self,
        lease: Lease,
        verdict: Verdict,
        *,
        retry_after: float | None = None,
        paid: int = 0,
        failure: str | None = None,
    ) -> None:
        """Take a permit back, and learn from the result of its request.

        Args:
            lease: The permit.
            verdict: What the result says about the gateway's limits.
            retry_after: Seconds for which the gateway asked all clients to send nothing, or None.
            paid: Retry tokens that were paid for the request.
            failure: Why there was no response, in words; None if there was one, or if the request was cancelled.
        """
        probe, pacer, now = lease is self._probe, self.pacer, self._clock()
        limit, rate, until = pacer.limit, pacer.rate, pacer.until
        self.in_flight -= 1
        pacer.ended(lease.permit, verdict, now=now, retry_after=retry_after)
        if failure is not None:
            self._last_failure = failure
            self.circuit.failed(probe=probe, among=limit, now=now)
        elif verdict is Verdict.ACCEPTED or verdict is Verdict.REFUSED:
            self._probe = None
            self.circuit.responded(paid=paid)
        else:
            self.circuit.cancelled(probe=probe)
        slower = pacer.limit < limit or pacer.rate < rate
        if slower or pacer.until > until:
            self._notify(slower=slower, paused=pacer.until > max(until, now), now=now)
        self.serve()

    def _next(self, now: float) -> tuple[Member | None, float]:
        """Return the first client whose own limits allow a request; if there is none, the seconds until there is."""
        soonest = math.inf
        for member in tuple(self._queue):
            wait = member.wait(now=now)
            if wait is None:
                self._queue.remove(member)
            elif not wait:
                return member, 0.0
            else:
                soonest = min(soonest, wait)
        return None, soonest

    def _grant(self, member: Member, now: float) -> float:
        """Grant a permit to a client; if the pacer does not allow it, return the seconds until it is asked again."""
        try:
            permit = self.pacer.take(now=now)
        except Exception as error:  # noqa: BLE001 - foreign code; its error must not be lost in a timer
            self._refuse(ConfigurationError(f"Pacer.take raised {error!r}"))
            return math.inf
        if not isinstance(permit, Permit):
            return self._checked(permit)
        self._queue.remove(member)
        self._queue.append(member)
        self.in_flight += 1
        lease = Lease(member, self, permit)
        self._probe = lease if self.circuit.sent() else None
        member.grant(lease, now=now)
        return 0.0

    def _checked(self, wait: object) -> float:
        """Return the wait that the pacer asked for; refuse all jobs if it would end immediately or never."""
        problem = "it must return a Permit, or the seconds above 0 after which to ask again"
        if isinstance(wait, int | float) and wait > 0:  # NaN is not
            if wait < math.inf:
                return min(wait, _LONGEST_WAIT)
            if self.in_flight:
                return math.inf
            problem = "infinity means until a request ends, and none is in flight"
        self._refuse(ConfigurationError(f"Pacer.take returned {wait!r}: {problem}"))
        return math.inf

    def _refuse(self, error: ImagenError) -> None:
        queue, self._queue = self._queue, deque()
        for member in queue:
            member.refuse(error)

    def _outage(self, now: float) -> OutageError:
        circuit = self.circuit
        return OutageError(
            f"no response: {circuit.failures:,} requests in a row, the last with {self._last_failure}, "
            f"failed in {now - circuit.since:.0f} s. The retry quota is used up. Run again when the gateway is back"
        )

    def _notify(self, *, slower: bool, paused: bool, now: float) -> None:
        for member in list(self._members):
            if slower:
                member.throttled()
            if paused:
                member.paused(self.pacer.until - now, now=now)

    def _set_timer(self, due: float | None) -> None:
        if self._timer is not None and (due is None or due < self._due):
            self._timer.cancel()
            self._timer = None
        if self._timer is None and due is not None:
            self._due = due
            self._timer = asyncio.create_task(self._sleep_until_due(), name="imagen-limiter-timer")

    async def _sleep_until_due(self) -> None:
        await self._sleep(max(_SHORTEST_SLEEP, self._due - self._clock()))
        self._timer = None
        self.serve()


_SHARED: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakValueDictionary[Hashable, SharedLimiter]] = (
    weakref.WeakKeyDictionary()
)


def shared_limiter(key: Hashable, make: Callable[[], SharedLimiter]) -> SharedLimiter:
    """Return the shared limiter of `key` in the running event loop; it lives as long as a client uses it."""
    in_loop = _SHARED.setdefault(asyncio.get_running_loop(), weakref.WeakValueDictionary())
    if (shared := in_loop.get(key)) is None:
        shared = in_loop[key] = make()
    return shared
