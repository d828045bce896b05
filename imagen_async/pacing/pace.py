"""How many requests at once, and how fast: a controller that finds the gateway's limit and stays just under it.

Gateways limit how much is under way, or how much begins in a second or a minute, and tell neither; all one hears is
429. So two limits are kept, a window (requests in flight) and a rate (requests a second), and a refusal cuts the one
that it speaks against, to what the gateway had accepted at that moment: that is its limit, exactly, so there is no
need to fall to a half and climb again (AIMD, as in TCP). What binds grows again after a while, slowly at first and then
faster and faster, as in CUBIC (RFC 9438), so that a limit that was raised is found as well. A refusal that names a wait
pauses everybody for that long.

Arithmetic on instants that the caller gives; nothing here knows a clock, a task or a socket.
"""

from __future__ import annotations

import enum
import math

import attrs

__all__ = ["Pace", "Ticket", "Tuning", "Verdict"]

_SETTLING = 1.0
"""Seconds after a cut in which a refusal says nothing new; the shortest time in which a rate is measured."""

_SHORT = 4.0
"""Seconds within which a second cut finds that the first one was too small."""

_STEP_DOWN = 0.85
"""What such a second cut leaves of the rate."""

_ENOUGH = 20
"""Requests from which a rate can be measured."""

_MEMORY = 60.0
"""Seconds over which a rate is measured at most."""

_MOST_PATIENCE = 3600.0
"""Seconds without a refusal after which growth is tried again in any case."""

_MOST_DOUBLINGS = 30
"""Keeps a power of two within the floats."""

_MOST_TAKEN = 16_384
"""Requests that are remembered at most."""


class Verdict(enum.Enum):
    """What the end of a request says about the gateway's limits."""

    ACCEPTED = enum.auto()
    """It was worked on, whatever came of it."""
    REFUSED = enum.auto()
    """Too many: it was turned away."""
    NOTHING = enum.auto()
    """It never got there, or nobody waited for the answer."""


@attrs.frozen(kw_only=True)
class Tuning:
    """Constants of the controller; the defaults were found by simulation, see ``tests/pacing``.

    Attributes:
        start: Requests in flight at first.
        margin: Part of the measured rate that is used, below 1: senders and limits do not count in step.
        patience: Seconds without a refusal before what binds begins to grow.
        per_wait: Where a refusal names a wait: as many times that wait is the least patience.
        step: Seconds between two steps of growth.
        growth: First step of growth, as a part; each further one is twice as large.
        fastest: Largest step.
        backoff: Seconds of the first pause after a refusal that names no wait and follows hard upon another one.
        longest_backoff: What that may double to.
    """

    start: int = 8
    margin: float = 0.975
    patience: float = 2.0
    per_wait: float = 20.0
    step: float = 0.5
    growth: float = 0.03
    fastest: float = 0.5
    backoff: float = 0.1
    longest_backoff: float = 60.0


@attrs.frozen
class Ticket:
    """One request under way.

    Attributes:
        number: Counts the requests.
        at: When it left.
        by_window: Whether the window was full with it.
        by_rate: Whether it had to wait for the rate.
    """

    number: int
    at: float
    by_window: bool
    by_rate: bool


@attrs.define
class _Growth:
    """When a limit that binds may grow next, and by how much."""

    tuning: Tuning
    patience: float = attrs.field(init=False)
    _next: float = math.inf
    _part: float = 0.0

    def __attrs_post_init__(self) -> None:
        self.patience = self.tuning.patience

    def begin(self, *, now: float, doubling: bool = False) -> None:
        """Begin again, after a cut; with `doubling` by twice as much each time, at once."""
        self._next = now + (self.tuning.step if doubling else self.patience)
        self._part = 1.0 if doubling else self.tuning.growth

    def due(self, *, now: float) -> float:
        """Return the part by which to grow now; mostly 0."""
        if now < self._next:
            return 0.0
        part = self._part
        self._part = part if part == 1.0 else min(self.tuning.fastest, 2 * part)
        self._next = now + self.tuning.step
        return part


class Pace:
    """Says when the next request may leave.

    Args:
        most: Most requests in flight, whatever the gateway takes.
        tuning: Constants.

    Example:
        >>> pace = Pace(most=64)
        >>> pace.wait(now=0.0)
        0.0
        >>> ticket = pace.sent(now=0.0)
        >>> pace.ended(ticket, Verdict.REFUSED, now=0.1, retry_after=2.0)
        >>> round(pace.wait(now=0.1), 3)
        2.0
    """

    def __init__(self, *, most: int, tuning: Tuning | None = None) -> None:
        self.tuning = tuning or Tuning()
        self.most = most
        self.window = float(min(most, self.tuning.start))
        self.rate = math.inf
        self.until = -math.inf
        """When a pause ends."""
        self.in_flight = 0
        self._next = -math.inf
        """When the rate allows the next request."""
        self._number = 0
        self._began = -math.inf
        self._cut = 0
        """Refusals of requests up to this number have been answered by a cut."""
        self._window_cut_at = self._rate_cut_at = -math.inf
        self._window_before = self.window
        self._pause = 0.0
        """Seconds of the last pause that no gateway named."""
        self._streak = 0
        """Cuts that followed hard upon each other."""
        self._taken: dict[int, float] = {}
        """When the requests of the last seconds left that were not refused, by number."""
        self._slow_start = True
        self._window_growth = _Growth(self.tuning)
        self._rate_growth = _Growth(self.tuning)

    def __repr__(self) -> str:
        return f"<Pace: {self.in_flight} of {self.limit} in flight, {self.rate:.3g} a second>"

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return max(1, min(self.most, int(self.window)))

    def wait(self, *, now: float) -> float:
        """Return the seconds until a request may leave: 0 if it may now, infinity if another one has to end first."""
        if self.in_flight >= self.limit:
            return math.inf
        return max(0.0, self.until - now, self._next - now)

    def hold(self, seconds: float, *, now: float) -> None:
        """Let nothing leave for `seconds`; a shorter pause does not cut a longer one."""
        self.until = max(self.until, now + seconds)

    def sent(self, *, now: float) -> Ticket:
        """Note that a request leaves."""
        self._number += 1
        self.in_flight += 1
        if self._number == 1:
            self._began = now
        spacing = 1.0 / self.rate
        by_rate = now - self._next < spacing / 2
        # What a timer was late by is made up for, but never by more than half a place.
        self._next = max(self._next, now - spacing / 2) + spacing
        ticket = Ticket(self._number, now, by_window=self.in_flight >= self.limit, by_rate=by_rate)
        self._taken[ticket.number] = now
        oldest = next(iter(self._taken))
        if self._taken[oldest] < now - _MEMORY or len(self._taken) > _MOST_TAKEN:
            del self._taken[oldest]
        return ticket

    def ended(self, ticket: Ticket, verdict: Verdict, *, now: float, retry_after: float | None = None) -> None:
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
            self._grow(ticket, now)
        elif verdict is Verdict.REFUSED:
            self._taken.pop(ticket.number, None)
            if ticket.number > self._cut:
                self._back_off(ticket, now, retry_after)

    def _grow(self, ticket: Ticket, now: float) -> None:
        if ticket.number > self._cut:
            self._streak = max(0, self._streak - 1)
        if ticket.by_rate:
            self.rate *= 1.0 + self._rate_growth.due(now=now)
        if ticket.by_window:
            part = self._window_growth.due(now=now)
            by = 1.0 if self._slow_start else max(1.0, self.window * part) if part else 0.0
            self.window = min(float(self.most), self.window + by)

    def _back_off(self, ticket: Ticket, now: float, retry_after: float | None) -> None:
        by_window = ticket.by_window and not ticket.by_rate and now - self._window_cut_at > _SETTLING
        if retry_after is not None:
            # A refusal costs everybody a wait: it must not come often.
            self._rate_growth.patience = max(
                self._rate_growth.patience, min(self.tuning.per_wait * retry_after, _MOST_PATIENCE)
            )
        if now - self._rate_cut_at >= _SETTLING:
            if by_window:
                self._cut_window(now)
            if retry_after is not None or not by_window:
                self._cut_rate(ticket, now, guess=retry_after is None)
        elif retry_after is not None:
            self._rate_growth.begin(now=now)
        if retry_after is not None:
            self._pause = 0.0
        elif self._streak or not self.in_flight:
            doublings = min(max(self._streak - 1, 0), _MOST_DOUBLINGS)
            self._pause = min(self.tuning.longest_backoff, self.tuning.backoff * 2.0**doublings)
            self.hold(self._pause, now=now)
        self._streak += 1
        self._cut = self._number

    def _cut_window(self, now: float) -> None:
        self._window_before = self.window
        self.window = max(1.0, float(self.in_flight))
        self._window_cut_at = now
        self._slow_start = False
        self._window_growth.begin(now=now)

    def _cut_rate(self, ticket: Ticket, now: float, *, guess: bool) -> None:
        first = self.rate == math.inf
        if first and guess:
            # It was not the window after all.
            self.window, self._slow_start = max(self.window, self._window_before), True
        # A few requests measure nothing.
        horizon = max(_SETTLING, _ENOUGH / self.rate, 4 * self._pause if self._pause > _SETTLING else 0.0)
        horizon = min(horizon, _MEMORY)
        measured = max(self._measured(ticket, horizon), self._measured(ticket, _MEMORY))
        # A gateway that counts by the clock's seconds takes more in ours: then it is found step by step.
        again = now - self._rate_cut_at < _SHORT and measured >= self.rate
        # Where nothing was taken there is nothing to go by but the pauses, and their ends are no place for a crowd.
        self.rate = min(self.rate, measured or float(self.limit)) * (_STEP_DOWN if again else self.tuning.margin)
        self._rate_cut_at = now
        # In the first second nothing can be measured: what was taken till then is a beginning.
        early = not measured or ticket.at - self._began < _SETTLING / 2
        self._rate_growth.begin(now=now, doubling=first and early)

    def _measured(self, refused: Ticket, horizon: float) -> float:
        """Return how many requests a second the gateway took before it refused one."""
        begin = refused.at - horizon
        return sum(begin < at and number < refused.number for number, at in self._taken.items()) / horizon
