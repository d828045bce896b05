"""The controller: finds the gateway's limit from refusals (429), and stays just below it.

Gateways limit how many requests are in flight, or how many start in a second or a minute, and do not announce their
limits. So the controller keeps two, a window (requests in flight) and a rate (requests a second). A refusal cuts the
one that it speaks against, to what the gateway had accepted at that moment. That is the limit itself, so the window
need not be halved and grow back as in TCP (AIMD). After a while the limit that binds grows again, in small steps and
then in larger ones, as in CUBIC (RFC 9438), so that a raised limit is found as well. A refusal that names a wait pauses
all clients for that long.

Some refusals come at random; cuts made for those are undone (`background`). Some gateways fail rather than refuse, so
more than a few failures cut the window as well.

Pure: instants are arguments.
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
"""Failures above the expected number that are not chance."""

_ALLOWED_REFUSALS, _ALLOWED_FAILURES = 0.2, 0.15
"""Shares that may be chance while nothing is known: a limit that is met refuses many requests in a row."""

_SHORT = 4.0
"""Seconds within which a second refusal shows that the first cut was of the wrong limit."""

_SPREAD = 0.5
"""Part of a round trip over which a window of requests is spread, because a token bucket refuses bursts."""

_STAGGER = 0.005
"""Seconds between two requests after a pause, at least."""

_SMOOTH = 20
"""Requests over which the latency is averaged."""

_LONGER = 1.5
"""How much longer each pause is than the one before; small, because random refusals may follow each other too."""

_MOST_TIMES = 60
"""Keeps a power within the range of floats."""

_MOST_PATIENCE = 3600.0
"""Longest time in seconds without a refusal before growth is tried again."""


class Controller:
    """Decides when the next request may leave.

    Args:
        most: Most requests in flight, even if the gateway accepts more; `Tuning.start` until `allow` is called.
        tuning: Constants.

    Example:
        >>> controller = Controller(most=64)
        >>> permit = controller.take(now=0.0)
        >>> controller.ended(permit, Verdict.REFUSED, now=0.1, retry_after=2.0)
        >>> round(controller.take(now=0.1), 3)
        2.0
    """

    def __init__(self, *, most: int | None = None, tuning: Tuning | None = None) -> None:
        self.tuning = tuning or Tuning()
        self.most = self.tuning.start if most is None else most
        self.until = -math.inf
        """When the last pause ends."""
        self.in_flight = 0
        self._window = Window(self.tuning, float(min(self.most, self.tuning.start)))
        self._rate = LearnedRate(self.tuning)
        self._refusals = Background(_ALLOWED_REFUSALS)
        self._failures = Background(_ALLOWED_FAILURES)
        self._number = 0
        self._full = 0
        """The last request that filled the window."""
        self._cut = 0
        """A cut has been made for failures of requests up to this number."""
        self._before = (math.inf, self._window.size, math.inf)
        """Rate, window and fast growth before cuts that may have to be undone."""
        self._met = 0
        """How many were in flight at the first refusal, until the second."""
        self._latency = 0.0
        self._staggered = 0
        """Requests up to this number leave one after the other, because a pause has ended."""
        self._pause = 0.0
        """Seconds of the last pause that the gateway did not ask for."""
        self._streak = 0
        """Refusals that directly followed each other."""

    def __repr__(self) -> str:
        return f"<Controller: {self.in_flight} of {self.limit} in flight, {self.rate:.3g} a second>"

    @property
    def limit(self) -> int:
        """How many requests may be in flight."""
        return max(1, min(self.most, int(self._window.size)))

    @property
    def rate(self) -> float:
        """How many requests may leave in a second; infinity while no limit has been met."""
        return self._rate.rate

    def allow(self, most: int) -> None:
        """Set the most requests in flight; surplus requests in flight are not cancelled."""
        self.most = most

    def take(self, *, now: float) -> Permit | float:
        """Permit one request, or return the seconds to wait; infinity if a request has to end first."""
        if self.in_flight >= self.limit:
            return math.inf
        return max(0.0, self._rate.next - now) or self.sent(now=now)

    def hold(self, seconds: float, *, now: float) -> None:
        """Let nothing leave for `seconds`, then requests one after the other; never shortens a longer pause."""
        self.until = max(self.until, now + seconds)
        self._rate.next = max(self._rate.next, self.until)
        self._staggered = self._number + self.limit

    def sent(self, *, now: float) -> Permit:
        """Return the permit of a request that leaves now, whether it should or not."""
        self._number += 1
        self.in_flight += 1
        limit = self.limit
        spread = _STAGGER if self._number <= self._staggered else 0.0
        if self._window.size >= self._window.fast_to:
            spread = max(spread, _SPREAD * self._latency / limit)
        by_rate = self._rate.sent(self._number, now=now, spread=spread)
        if by_window := self.in_flight >= limit:
            self._full = self._number
        return Permit(self._number, now, self.in_flight, by_window, by_rate)

    def ended(self, permit: Permit, verdict: Verdict, *, now: float, retry_after: float | None = None) -> None:
        """Learn from the result of a request.

        Args:
            permit: What `take` returned for it.
            verdict: Its result.
            now: The instant.
            retry_after: Seconds for which the gateway asked all clients to send nothing, or None.
        """
        self.in_flight -= 1
        if retry_after is not None:
            self.hold(retry_after, now=now)
        if verdict is Verdict.ACCEPTED:
            self._accepted(permit, now)
        elif verdict is Verdict.OVERLOADED:
            self._overloaded(permit, now)
        elif verdict is Verdict.REFUSED:
            self._rate.accepted.remove(permit.number)
            if permit.number > self._cut:
                self._refused(permit, now, retry_after)
            else:
                self._window.overtaken(permit.number)

    def _accepted(self, permit: Permit, now: float) -> None:
        if permit.number > self._cut:
            self._streak = 0
        self._latency += (now - permit.at - self._latency) / (_SMOOTH if self._latency else 1)
        if self._window.failures:
            self._window.worked()
        if self._refusals.share and self._refusals.suspects(self._number):
            return
        if permit.by_rate:
            self._rate.grow(now=now)
        if permit.number <= self._full:
            self._window.grow(self.most, now=now)

    def _overloaded(self, permit: Permit, now: float) -> None:
        self._window.failed()
        if permit.number <= self._cut:
            return
        self._failures.add(permit.number)
        excess, share = self._failures.excess()
        if excess >= _CLEARLY:
            self._window.crowd(permit.among, share=share, now=now)
            self._failures.forget()
            self._cut = self._number

    def _refused(self, permit: Permit, now: float, retry_after: float | None) -> None:
        refusals = self._refusals
        known = refusals.share > 0
        # Before the first cut, one or two refusals may be chance; later, one means a limit if there is no background.
        one = not known and (self._cut or retry_after is not None)
        refusals.add(permit.number)
        if refusals.judge(permit.number, at=permit.at, grown=self._binding().grown):
            self._restore(known=known)
        elif refusals.excess()[0] >= (1.0 if one else _CLEARLY):
            self._back_off(permit, now, retry_after)

    def _binding(self) -> Growth:
        return self._window.growth if self.rate == math.inf else self._rate.growth

    def _restore(self, *, known: bool) -> None:
        """Undo the cuts since which refusals have gone on; if a background was known, undo its part."""
        rate, size, fast_to = self._before
        if known:
            accepted = 1.0 - self._refusals.share
            rate, size, fast_to = min(rate, self.rate / accepted), min(size, self._window.size / accepted), 0.0
        self._rate.restore(rate)
        self._staggered = self._number + self.limit
        self._window.size, self._window.fast_to = max(self._window.size, size), max(self._window.fast_to, fast_to)
        self._streak, self._pause = 0, 0.0

    def _back_off(self, permit: Permit, now: float, retry_after: float | None) -> None:
        if retry_after is not None:
            self._be_patient(permit, retry_after)
        used = retry_after is not None or not self._refusals.on_trial or self._rate.used(permit.number)
        if self._rate.settled(now=now) and used:
            self._cut_one(permit, now, retry_after or 0.0)
        elif retry_after is not None:
            self._rate.growth.begin(now=now)
        self._pause_after(permit, now, named=retry_after is not None)
        self._cut = self._number

    def _be_patient(self, permit: Permit, retry_after: float) -> None:
        """Let growth wait longer, because each refusal that names a wait costs all clients that wait."""
        patience = min(self.tuning.per_wait * retry_after, _MOST_PATIENCE)
        self._rate.growth.patience = max(self._rate.growth.patience, patience)
        if not self._rate.early(permit.at):
            self._window.growth.patience = max(self._window.growth.patience, patience / 2)

    def _cut_one(self, permit: Permit, now: float, wait: float) -> None:
        if not self._refusals.share:
            self._before = (math.inf, max(self._window.size, self._before[1]), math.inf)
        elif not self._refusals.on_trial:
            self._before = (self.rate, self._window.size, self._window.fast_to)
        first = self.rate == math.inf
        tried = self._window.tried(now=now, seconds=_SHORT + wait)
        # A gateway that limits requests in flight cannot know when there will be room, and rarely names a wait.
        likely = permit.by_window and self._cut > 0 if wait else permit.by_window or first
        by_window = likely and not permit.by_rate and not tried
        if by_window or self._as_many_as_before(permit):
            self._window.cut(self.in_flight, after=self._cut, now=now)
        else:
            self._cut_rate(permit, now)
        self._refusals.cut(self._number, at=permit.at, settled_at=now + SETTLING, anew=first and not by_window)

    def _as_many_as_before(self, permit: Permit) -> bool:
        """Return whether as many requests were in flight as at the first refusal, which had another rate."""
        met, self._met = self._met, 0 if self._cut else permit.among
        if not met or abs(permit.among - met) > 1:
            return False
        self._rate.restore(math.inf)
        return True

    def _cut_rate(self, permit: Permit, now: float) -> None:
        self._window.spare()
        if self.rate == math.inf:
            self._window.size, self._window.fast_to = max(self._window.size, self._before[1]), math.inf
        # Requests must not leave in a burst when a pause ends.
        otherwise = float(self.limit)
        self._rate.cut(permit.number, at=permit.at, after=self._number, pause=self._pause, otherwise=otherwise, now=now)

    def _pause_after(self, permit: Permit, now: float, *, named: bool) -> None:
        """Pause if refusals directly follow each other, unless the gateway has named a wait."""
        if permit.number - 1 in self._rate.accepted:
            self._streak = 0
        if named:
            self._pause = 0.0
        elif self._streak or not self.in_flight:
            times = min(max(self._streak - 1, 0), _MOST_TIMES)
            self._pause = min(self.tuning.longest_backoff, self.tuning.backoff * _LONGER**times)
            self.hold(self._pause, now=now)
        self._streak += 1
