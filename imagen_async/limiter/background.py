"""Separates random refusals from those caused by our own rate.

A gateway's limit refuses the excess: when less is sent, refusals stop. Some gateways, or proxies before them, also
refuse a part of all requests at random, and sending less does not help. Two observations separate the two kinds:

- *After a cut.* Refusals that go on after a cut, at about the same share and scattered among accepted requests, are
  the background. (A limit that still has no room refuses one request after the other.)
- *Their number.* Above the background, refusals add up: each counts 1, and each request between two of them subtracts
  the share that would be just too many (CUSUM; E. S. Page, "Continuous Inspection Schemes", Biometrika, 1954). The sum
  stays near 0 while the share is below that, and rises as soon as it is above.

Requests are counted by their numbers, in the order in which they left, so an accepted request costs nothing.
"""

from __future__ import annotations

import bisect

import attrs

__all__ = ["Background"]

_LEAST = 0.04
"""A smaller share is not a background."""

_MOST = 0.8
"""A larger share is not a background but a gateway that accepts nothing."""

_TELLING, _TELLING_MORE = 3, 5
"""Refusals after a cut that make a background; more if the share is large, or if a background is known already."""

_SUSPICIOUS = 1.5
"""Failures above a background at which nothing grows."""

_LATE = 32
"""Most recent failures that are searched for an excess."""

_MANY = 0.25
"""Share from which one cut proves nothing: it may have been too small, because little was measured."""

_LONG = 60
"""Requests after a cut that make a share below `_LEAST` certain."""

_SCATTERED = 0.7
"""Least part of the failures expected to follow an accepted request which shows that they are random."""

_PRECISE = 30
"""Refusals after which a background is known well enough."""

_PRIOR = 4.0
"""Failures that the background known before counts for."""

_STRETCH = 1.2
"""How far a background may rise above its first estimate; more is excess."""

_TOO_MANY, _TOO_MANY_MORE = 1.5, 0.1
"""How far above a background a share is just too many: a factor, and at least this much."""

_EXPECTED = 5.0
"""Expected refusals after which a background without any has ended (by chance once in 150 times)."""


@attrs.define
class _Trial:
    """The failures after a cut.

    Attributes:
        first: The first request that counts.
        settled_at: When the cut takes effect.
        prior: The background that was known before.
        again: Whether it started again with another cut, because the first was too small.
        decided: Whether it is over.
        verdict: The background that it found.
        background: The current estimate of the background.
        seen: The failures since the cut.
    """

    first: int
    settled_at: float
    prior: float
    again: bool = False
    decided: bool = False
    verdict: float = 0.0
    background: float = 0.0
    seen: set[int] = attrs.field(factory=set)

    def begin(self, first: int, settled_at: float) -> None:
        """Start again, with another cut."""
        self.first, self.settled_at = first, settled_at
        self.seen.clear()

    def add(self, number: int, *, grown: bool) -> None:
        """Count a failure; after growth it was caused by the growth, and says nothing about the cut."""
        if number < self.first or len(self.seen) >= _PRECISE:
            return
        requests = max(number, *self.seen, 0) - self.first + 1
        if self.decided:
            self._refine(number, requests, grown=grown)
        elif not self.seen and self.prior * requests >= _EXPECTED:
            self._decide(0.0)
        elif grown:
            self._decide(self.prior)
        else:
            self.seen.add(number)
            self._weigh(len(self.seen) / requests, requests)

    def _weigh(self, share: float, requests: int) -> None:
        if share < _LEAST and requests >= _LONG:
            self._decide(0.0)
        elif _LEAST <= share <= _MOST and self._telling(share) and self._scattered(share):
            self._decide(self._estimate(requests))

    def _decide(self, background: float) -> None:
        self.decided, self.verdict, self.background = True, background, background

    def _refine(self, number: int, requests: int, *, grown: bool) -> None:
        if self.background and not grown:
            self.seen.add(number)
            self.background = min(_MOST, _STRETCH * self.verdict, self._estimate(requests))

    def _telling(self, share: float) -> bool:
        """Return whether there are enough failures to decide."""
        if share > _MANY and not self.prior:
            return self.again and len(self.seen) >= _TELLING_MORE
        return len(self.seen) >= (_TELLING_MORE if self.prior else _TELLING)

    def _estimate(self, requests: int) -> float:
        if not self.prior:
            # Counting stopped at a failure; without that failure the estimate is unbiased.
            return (len(self.seen) - 1) / (requests - 1)
        # The background known before counts as much as a few failures.
        return (len(self.seen) + _PRIOR) / (requests + _PRIOR / self.prior)

    def _scattered(self, share: float) -> bool:
        """Return whether about as many failures follow an accepted request as would by chance."""
        return sum(number - 1 not in self.seen for number in self.seen) >= _SCATTERED * (1.0 - share) * len(self.seen)


@attrs.define
class Background:
    """The share of requests that fail at any rate.

    Attributes:
        at_first: The share that is just too many while no background is known.
        share: The background; 0 until a cut has shown one.
    """

    at_first: float
    share: float = 0.0
    _late: list[int] = attrs.field(factory=list)
    _excess: float = 0.0
    _trial: _Trial | None = None

    @property
    def on_trial(self) -> bool:
        """Whether it is still unknown if the last cut has helped."""
        return self._trial is not None and not self._trial.decided

    @property
    def allowed(self) -> float:
        """The share that is just too many."""
        if not self.share:
            return self.at_first
        return min(max(_TOO_MANY * self.share, self.share + _TOO_MANY_MORE), (1.0 + self.share) / 2)

    def add(self, number: int) -> None:
        """Count the failure of request `number`; responses may overtake each other."""
        bisect.insort(self._late, number)
        del self._late[:-_LATE]

    def forget(self) -> None:
        """Forget all failures."""
        self._late.clear()

    def excess(self) -> tuple[float, float]:
        """Return how many more failed recently than would be just too many, and their share of all requests."""
        allowed, best, share = self.allowed, 0.0, 0.0
        for failures, number in enumerate(reversed(self._late), 1):
            requests = self._late[-1] - number
            if failures - allowed * requests > best:
                best, share = failures - allowed * requests, failures / (requests + 1)
        self._excess = best
        return best, share

    def suspects(self, number: int) -> bool:
        """Return whether, by request `number`, more failed recently than the background explains."""
        if not self._late:
            return False
        return self._excess - self.allowed * (number - self._late[-1]) >= _SUSPICIOUS

    def cut(self, number: int, *, at: float, settled_at: float, anew: bool) -> None:
        """Start a trial: less is sent after request `number`.

        Args:
            number: The last request that left before.
            at: When the request left whose failure caused the cut.
            settled_at: When the cut takes effect.
            anew: Whether this limit is cut for the first time.
        """
        self._late.clear()
        if not self._trial or self._trial.decided:
            self._trial = _Trial(number + 1, settled_at, self.share)
        elif anew or at < self._trial.settled_at:
            self._trial.begin(number + 1, settled_at)
        elif not self._trial.again:
            self._trial.again = True
            self._trial.begin(number + 1, self._trial.settled_at)

    def judge(self, number: int, *, at: float, grown: bool) -> bool:
        """Count the failure of a request after a cut; return whether it shows that the cut was unnecessary.

        Args:
            number: The request.
            at: When it left.
            grown: Whether the limit that was cut has grown since.
        """
        trial = self._trial
        if not trial:
            return False
        if at < trial.settled_at:
            trial.first = max(trial.first, number + 1)
            return False
        undecided = not trial.decided
        trial.add(number, grown=grown)
        if trial.decided:
            self.share = trial.background
        return undecided and trial.decided and self.share > 0 and not grown
