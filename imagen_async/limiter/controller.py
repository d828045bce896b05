"""How many requests at once, and how fast: a controller that finds the gateway's limit and stays just under it.

Gateways limit how much is under way, or how much begins in a second or a minute, and tell neither; all one hears is
429. So two limits are kept, a window (requests in flight) and a rate (requests a second), and a refusal cuts the one
that it speaks against, to what the gateway had accepted at that moment: that is its limit, exactly, so there is no
need to fall to a half and climb again (AIMD, as in TCP). What binds grows again after a while, slowly at first and then
faster and faster, as in CUBIC (RFC 9438), so that a limit that was raised is found as well. A refusal that names a wait
pauses everybody for that long.

Not every refusal speaks of a limit: some come at random, and what was cut for those is given back (`background`). And
not every limit refuses: a gateway may break down under what is too much at once, so failures cut the window as well,
if they are more than a few.

Arithmetic on instants that the caller gives; nothing here knows a clock, a task or a socket.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from imagen_async.limiter.background import Background
from imagen_async.limiter.permit import Permit, Verdict
from imagen_async.limiter.rate import SETTLING, LearnedRate
from imagen_async.limiter.tuning import Tuning
from imagen_async.limiter.window import Window

if TYPE_CHECKING:
    from imagen_async.limiter.growth import Growth

__all__ = ["Controller", "Permit", "Tuning", "Verdict"]

_CLEARLY = 4.0
"""Failures above what is to be expected that are no chance."""

_ALLOWED_REFUSALS, _ALLOWED_FAILURES = 0.2, 0.15
"""Shares that may still be chance, as long as nothing is known: a limit that is met refuses many in a row."""

_SHORT = 4.0
"""Seconds within which a second refusal shows that the first cut was not where the limit is."""

_SPREAD = 0.5
"""Part of a round trip over which a window's worth of requests is spread: many at once is what a bucket refuses."""

_STAGGER = 0.005
"""Seconds between two requests after a pause, at least."""

_SMOOTH = 20
"""Requests over which the latency is averaged."""

_LONGER = 1.5
"""By how much each pause is longer than the one before: of random refusals, too, many may come in a row."""

_MOST_TIMES = 60
"""Keeps a power within the floats."""

_MOST_PATIENCE = 3600.0
"""Seconds without a refusal after which growth is tried again in any case."""


class Controller:
    """Says when the next request may leave.

    Args:
        most: Most requests in flight, whatever the gateway takes; as many as at first, until `allow` is told.
        tuning: Constants.

    Example:
        >>> pace = Controller(most=64)
        >>> pace.wait(now=0.0)
        0.0
        >>> ticket = pace.sent(now=0.0)
        >>> pace.ended(ticket, Verdict.REFUSED, now=0.1, retry_after=2.0)
        >>> round(pace.wait(now=0.1), 3)
        2.0
    """

    def __init__(self, *, most: int | None = None, tuning: Tuning | None = None) -> None:
        self.tuning = tuning or Tuning()
        self.most = self.tuning.start if most is None else most
        self.until = -math.inf
        """When a pause ends."""
        self.in_flight = 0
        self._window = Window(self.tuning, float(min(self.most, self.tuning.start)))
        self._speed = LearnedRate(self.tuning)
        self._refusals = Background(_ALLOWED_REFUSALS)
        self._failures = Background(_ALLOWED_FAILURES)
        self._number = 0
        self._full = 0
        """The last request with which the window was full."""
        self._cut = 0
        """Failures of requests up to this number have been answered by a cut."""
        self._before = (math.inf, self._window.size, math.inf)
        """Spacing, window and fast growth before cuts of which it is not yet known whether they helped."""
        self._met = 0
        """How many were in flight when the first one was refused, until another one is."""
        self._latency = 0.0
        self._staggered = 0
        """Requests up to this number leave one after the other, for a pause has ended."""
        self._pause = 0.0
        """Seconds of the last pause that no gateway named."""
        self._streak = 0
        """Refusals that followed hard upon each other."""

    def __repr__(self) -> str:
        return f"<Controller: {self.in_flight} of {self.limit} in flight, {self.rate:.3g} a second>"

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return max(1, min(self.most, int(self._window.size)))

    @property
    def rate(self) -> float:
        """How many requests a second may leave; infinity while no limit has been met."""
        return self._speed.rate

    def allow(self, most: int) -> None:
        """Change the most requests in flight; those that are too many already end in their own time."""
        self.most = most

    def wait(self, *, now: float) -> float:
        """Return the seconds until a request may leave: 0 if it may now, infinity if another one has to end first."""
        if self.in_flight >= self.limit:
            return math.inf
        return max(0.0, self._speed.next - now)

    def take(self, *, now: float) -> Permit | float:
        """Let a request leave, or say how many seconds from now to ask again."""
        return self.wait(now=now) or self.sent(now=now)

    def hold(self, seconds: float, *, now: float) -> None:
        """Let nothing leave for `seconds`, then one after the other; a shorter pause does not cut a longer one."""
        self.until = max(self.until, now + seconds)
        self._speed.next = max(self._speed.next, self.until)
        self._staggered = self._number + self.limit

    def sent(self, *, now: float) -> Permit:
        """Note that a request leaves."""
        self._number += 1
        self.in_flight += 1
        limit = self.limit
        by_rate = self._speed.sent(self._number, now=now, spread=self._spread(limit))
        if by_window := self.in_flight >= limit:
            self._full = self._number
        return Permit(self._number, now, self.in_flight, by_window, by_rate)

    def _spread(self, limit: int) -> float:
        spread = _STAGGER if self._number <= self._staggered else 0.0
        if self._window.size < self._window.fast_to:
            return spread
        return max(spread, _SPREAD * self._latency / limit)

    def ended(self, ticket: Permit, verdict: Verdict, *, now: float, retry_after: float | None = None) -> None:
        """Note that a request has ended, and what that says.

        Args:
            ticket: From `sent`.
            verdict: What became of it.
            now: The instant.
            retry_after: Seconds that the gateway wants everybody to stay away, or None.
        """
        self.in_flight -= 1
        if retry_after is not None:
            self.hold(retry_after, now=now)
        if verdict is Verdict.ACCEPTED:
            self._accepted(ticket, now)
        elif verdict is Verdict.OVERLOADED:
            self._overloaded(ticket, now)
        elif verdict is Verdict.REFUSED:
            self._speed.taken.remove(ticket.number)
            if ticket.number > self._cut:
                self._refused(ticket, now, retry_after)
            else:
                self._window.overtaken(ticket.number)

    def _accepted(self, ticket: Permit, now: float) -> None:
        if ticket.number > self._cut:
            self._streak = 0
        self._latency += (now - ticket.at - self._latency) / (_SMOOTH if self._latency else 1)
        self._window.worked()
        if self._refusals.suspects(self._number):
            return
        if ticket.by_rate:
            self._speed.grow(now=now)
        if ticket.number <= self._full:
            self._window.grow(self.most, now=now)

    def _overloaded(self, ticket: Permit, now: float) -> None:
        self._window.failed()
        if ticket.number <= self._cut:
            return
        self._failures.add(ticket.number)
        excess, share = self._failures.excess()
        if excess >= _CLEARLY:
            self._window.crowd(ticket.among, share=share, now=now)
            self._failures.forget()
            self._cut = self._number

    def _refused(self, ticket: Permit, now: float, retry_after: float | None) -> None:
        refusals = self._refusals
        known = refusals.share > 0
        # Before the first cut, one refusal or two are no limit; later, one is, unless some come in any case.
        one = not known and (self._cut or retry_after is not None)
        refusals.add(ticket.number)
        if refusals.judge(ticket.number, at=ticket.at, grown=self._binding().grown):
            self._restore(known=known)
        elif refusals.excess()[0] >= (1.0 if one else _CLEARLY):
            self._back_off(ticket, now, retry_after)

    def _binding(self) -> Growth:
        return self._window.growth if self.rate == math.inf else self._speed.growth

    def _restore(self, *, known: bool) -> None:
        """Take back the cuts since which refusals have gone on as before; of a background that was known its part."""
        rate, size, fast_to = self._before
        if known:
            taken = 1.0 - self._refusals.share
            rate, size, fast_to = min(rate, self.rate / taken), min(size, self._window.size / taken), 0.0
        self._speed.restore(rate)
        self._staggered = self._number + self.limit
        self._window.size, self._window.fast_to = max(self._window.size, size), max(self._window.fast_to, fast_to)
        self._streak, self._pause = 0, 0.0

    def _back_off(self, ticket: Permit, now: float, retry_after: float | None) -> None:
        if retry_after is not None:
            self._be_patient(ticket, retry_after)
        used = retry_after is not None or not self._refusals.on_trial or self._speed.used(ticket.number)
        if self._speed.settled(now=now) and used:
            self._cut_one(ticket, now, retry_after or 0.0)
        elif retry_after is not None:
            self._speed.growth.begin(now=now)
        self._pause_after(ticket, now, named=retry_after is not None)
        self._cut = self._number

    def _be_patient(self, ticket: Permit, retry_after: float) -> None:
        """A refusal that names a wait costs everybody that wait: it must not come often."""
        patience = min(self.tuning.per_wait * retry_after, _MOST_PATIENCE)
        self._speed.growth.patience = max(self._speed.growth.patience, patience)
        if not self._speed.early(ticket.at):
            self._window.growth.patience = max(self._window.growth.patience, patience / 2)

    def _cut_one(self, ticket: Permit, now: float, wait: float) -> None:
        if not self._refusals.share:
            self._before = (math.inf, max(self._window.size, self._before[1]), math.inf)
        elif not self._refusals.on_trial:
            self._before = (self.rate, self._window.size, self._window.fast_to)
        first = self.rate == math.inf
        tried = self._window.tried(now=now, seconds=_SHORT + wait)
        # Who limits how much is at once cannot know when there will be room, and mostly names no wait.
        likely = ticket.by_window and self._cut > 0 if wait else ticket.by_window or first
        by_window = likely and not ticket.by_rate and not tried
        if by_window or self._as_many_as_before(ticket):
            self._window.cut(self.in_flight, after=self._cut, now=now)
        else:
            self._cut_rate(ticket, now)
        self._refusals.cut(self._number, at=ticket.at, settled_at=now + SETTLING, anew=first and not by_window)

    def _as_many_as_before(self, ticket: Permit) -> bool:
        """Whether as many were in flight as when the first one was refused, at another rate: then that is the limit."""
        met, self._met = self._met, 0 if self._cut else ticket.among
        if not met or abs(ticket.among - met) > 1:
            return False
        self._speed.restore(math.inf)
        return True

    def _cut_rate(self, ticket: Permit, now: float) -> None:
        self._window.was_innocent()
        if self.rate == math.inf:
            self._window.size, self._window.fast_to = max(self._window.size, self._before[1]), math.inf
        # The ends of pauses are no place for a crowd.
        otherwise = float(self.limit)
        self._speed.cut(
            ticket.number, at=ticket.at, after=self._number, pause=self._pause, otherwise=otherwise, now=now
        )

    def _pause_after(self, ticket: Permit, now: float, *, named: bool) -> None:
        """Stay away for a while if one refusal follows the other, unless the gateway itself has named a wait."""
        if ticket.number - 1 in self._speed.taken:
            self._streak = 0
        if named:
            self._pause = 0.0
        elif self._streak or not self.in_flight:
            times = min(max(self._streak - 1, 0), _MOST_TIMES)
            self._pause = min(self.tuning.longest_backoff, self.tuning.backoff * _LONGER**times)
            self.hold(self._pause, now=now)
        self._streak += 1
