"""What all clients of one key share in an event loop: the gateway's pace, a circuit, and a queue for taking turns.

It waits and wakes; when a request may leave is decided by the pacer, the circuit and each client's own limits. It
knows no HTTP and no job.
"""

from __future__ import annotations

import asyncio
import math
import weakref
from collections import deque
from typing import TYPE_CHECKING, Protocol

import attrs

from imagen_async.exceptions import OutageError
from imagen_async.limiter.circuit import Circuit
from imagen_async.limiter.controller import Controller
from imagen_async.limiter.permit import Permit, Verdict

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Hashable

    from imagen_async.limiter.circuit import RetryQuota
    from imagen_async.limiter.pacer import Pacer

__all__ = ["Member", "SharedLimiter", "SharedPermit", "shared_pool"]

_LEAST_SLEEP = 1e-6
"""Seconds: a wait too short for the clock to show would never end."""


class Member(Protocol):
    """A client, as the pool sees it."""

    size: int

    def asks(self) -> bool:
        """Say whether anybody waits."""

    def wait(self, *, now: float) -> float:
        """Return the seconds until this client may send, as far as it is concerned."""

    def give(self, permit: SharedPermit, *, now: float) -> None:
        """Let the first that waits send."""

    def refuse(self, error: OutageError) -> None:
        """Let nobody wait any longer: it is in vain."""

    def paused(self, seconds: float, *, now: float) -> None:
        """Hear that nobody sends for so long; whoever has not that much time is to stop waiting."""

    def throttled(self) -> None:
        """Hear that the gateway takes less than was thought."""


@attrs.frozen(eq=False)
class SharedPermit:
    """Permission to send one request.

    Attributes:
        ticket: The pacer's.
        pool: Who gave it, and is to be told of its end.
    """

    ticket: Permit
    pool: SharedLimiter


class SharedLimiter:
    """One queue for the clients of a key.

    Args:
        pacer: The gateway's pace.
        quota: What may be spent on trying again.
        clock: Gives monotonic seconds.
        sleep: Waits for some seconds.
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
        self._clock = clock
        self._sleep = sleep
        self._members: weakref.WeakSet[Member] = weakref.WeakSet()
        self._queueing: deque[Member] = deque()
        """The clients that wait, in the order of their turns."""
        self._keeper: asyncio.Task[None] | None = None
        """Sleeps until somebody may send."""
        self._probe: SharedPermit | None = None
        """What is sent to find out whether the gateway is back; one of an outage before says nothing about this one."""
        self._wakes = 0.0
        self._reason = ""

    def __repr__(self) -> str:
        return f"<SharedLimiter of {len(self._members)} clients: {self.pacer!r}, {self.circuit!r}>"

    @property
    def waiting(self) -> int:
        """How many clients have a job that waits for a permit."""
        return len(self._queueing)

    @property
    def timers(self) -> int:
        """How many timers are set: one while a permit is due later, otherwise none."""
        return int(self._keeper is not None)

    def join(self, member: Member) -> None:
        """Let a client take part."""
        self._members.add(member)
        self._allow()

    def leave(self, member: Member) -> None:
        """Let a client go."""
        self._members.discard(member)
        self._allow()

    def queue(self, member: Member) -> None:
        """Note that a client has somebody waiting, and let send whoever may."""
        if member not in self._queueing:
            self._queueing.append(member)
        self.serve()

    def pay(self, *, timed_out: bool) -> int:
        """Pay for a retry; see `Circuit.pay`."""
        return self.circuit.pay(timed_out=timed_out, now=self._clock())

    def paused(self) -> float:
        """Return the seconds until the gateway lets anybody send; 0 if it does."""
        return max(0.0, self.pacer.until - self._clock())

    def ended(
        self,
        permit: SharedPermit,
        verdict: Verdict,
        *,
        retry_after: float | None = None,
        paid: int = 0,
        failure: str | None = None,
    ) -> None:
        """Note that a request has ended.

        Args:
            permit: The one it was sent with.
            verdict: What that says of the gateway's limits.
            retry_after: Seconds that the gateway wants everybody to stay away, or None.
            paid: What was paid for it, if it was a retry.
            failure: Why there was no answer, in words; None if there was one or nobody waited for it.
        """
        probe = permit is self._probe
        now, before = self._clock(), (self.pacer.limit, self.pacer.rate, self.pacer.until)
        self.pacer.ended(permit.ticket, verdict, now=now, retry_after=retry_after)
        if failure is not None:
            self._reason = failure
            self.circuit.failed(probe=probe, among=before[0], now=now)
        elif verdict is Verdict.ACCEPTED or verdict is Verdict.REFUSED:
            self._probe = None
            self.circuit.answered(paid=paid)
        else:
            self.circuit.given_up(probe=probe)
        self._tell(*before, now=now)
        self.serve()

    def serve(self) -> None:
        """Let send whoever may now, and see to it that the next one is served in time."""
        now, wait = self._clock(), 0.0
        while not wait and self._drop_idle():
            wait = self._serve_one(now)
        if self._queueing and self.circuit.lost(now=now):
            self._give_up(now)
        self._keep(now + wait if self._queueing and wait < math.inf else None)

    def _allow(self) -> None:
        self.pacer.allow(max(1, sum(member.size for member in self._members)))

    def _drop_idle(self) -> bool:
        while self._queueing and not self._queueing[0].asks():
            self._queueing.popleft()
        return bool(self._queueing)

    def _serve_one(self, now: float) -> float:
        """Let one request leave; if none may, return the seconds until one may."""
        member, wait = self._next(now)
        wait = max(wait, self.circuit.wait(now=now))
        if wait or member is None:
            return wait
        ticket = self.pacer.take(now=now)
        if isinstance(ticket, float):
            return ticket
        # Whose turn it was is the last to have one again.
        self._queueing.remove(member)
        self._queueing.append(member)
        permit = SharedPermit(ticket, self)
        self._probe = permit if self.circuit.sent() else None
        member.give(permit, now=now)
        return 0.0

    def _next(self, now: float) -> tuple[Member | None, float]:
        """Return the first client that may send as far as it is concerned; if there is none, the seconds until then."""
        soonest = math.inf
        for member in self._queueing:
            wait = member.wait(now=now) if member.asks() else math.inf
            if not wait:
                return member, 0.0
            soonest = min(soonest, wait)
        return None, soonest

    def _give_up(self, now: float) -> None:
        circuit, queueing = self.circuit, list(self._queueing)
        self._queueing.clear()
        error = OutageError(
            f"nothing but failures for {now - circuit.since:.0f} s: {circuit.failures:,} requests in a row, the last "
            f"with {self._reason}; what is set aside for trying again is used up. Run again when the gateway is back"
        )
        for member in queueing:
            member.refuse(error)

    def _tell(self, limit: int, rate: float, until: float, *, now: float) -> None:
        pacer = self.pacer
        slower = pacer.limit < limit or pacer.rate < rate
        for member in list(self._members) if slower or pacer.until > until else ():
            if slower:
                member.throttled()
            if pacer.until > max(until, now):
                member.paused(pacer.until - now, now=now)

    def _keep(self, wakes: float | None) -> None:
        if self._keeper is not None and (wakes is None or wakes < self._wakes):
            self._keeper.cancel()
            self._keeper = None
        if self._keeper is None and wakes is not None:
            self._wakes = wakes
            self._keeper = asyncio.create_task(self._wake(), name="imagen-pool")

    async def _wake(self) -> None:
        await self._sleep(max(_LEAST_SLEEP, self._wakes - self._clock()))
        self._keeper = None
        self.serve()


_POOLS: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.WeakValueDictionary[Hashable, SharedLimiter]] = (
    weakref.WeakKeyDictionary()
)


def shared_pool(name: Hashable, make: Callable[[], SharedLimiter]) -> SharedLimiter:
    """Return the pool of `name` in the running event loop, as long as anybody uses it one and the same."""
    pools = _POOLS.setdefault(asyncio.get_running_loop(), weakref.WeakValueDictionary())
    if (pool := pools.get(name)) is None:
        pool = pools[name] = make()
    return pool
