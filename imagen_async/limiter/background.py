"""Which refusals come whatever one does, and which follow what one sends.

A gateway's limit refuses what is too much: send less than it took, and refusals stop. Some gateways, and what lies
before them, also turn a part of the requests away at random, and to send less does not help. One refusal looks like
another, but two things tell them apart:

- *What follows a cut.* The refusals that go on after it, at about the same share and strewn among what is taken, are
  the background. (A limit that has not yet room again refuses one request after the other.)
- *How many there are.* Above the background, refusals add up: each counts 1, each request between two of them takes
  off what would be just too many (CUSUM; E. S. Page, "Continuous Inspection Schemes", Biometrika, 1954). The sum
  stays near 0 as long as the share is below that, and climbs from the moment at which it is above.

Requests are counted by their numbers, in the order in which they left: for one that is taken, nothing is to be done.
"""

from __future__ import annotations

import bisect

import attrs

__all__ = ["Background"]

_LEAST = 0.04
"""Below this a background is none."""

_MOST = 0.8
"""Above this it is not a background but a gateway that takes nothing."""

_TELLING, _TELLING_MORE = 3, 5
"""Refusals after a cut that make a background; more where they are many, and where a background is known already."""

_SUSPICIOUS = 1.5
"""Failures above a background at which it is better to wait and see."""

_LATE = 32
"""Failures among which there may be too many."""

_MANY = 0.25
"""Share from which the first cut alone proves nothing: it may be too small, for it was measured in a hurry."""

_LONG = 60
"""Requests after a cut that make a share below the least one certain."""

_STREWN = 0.7
"""Part of the failures expected to come after a request that was taken which shows that they come by chance."""

_PRECISE = 30
"""Refusals from which a background is known well enough."""

_PRIOR = 4.0
"""Failures that what was known before counts for."""

_STRETCH = 1.2
"""How far a background may rise above its first estimate: what is far above comes on top."""

_TOO_MANY, _TOO_MANY_MORE = 1.5, 0.1
"""How far above a background the share is just too many: so many times, and so much at least."""

_EXPECTED = 5.0
"""Refusals that a background would have brought: where none came it has ended (by chance once in 150 times)."""


@attrs.define
class _Trial:
    """What fails after a cut.

    Attributes:
        first: The first request that counts.
        settled_at: When the cut begins to show.
        prior: The background that was known before.
        again: Whether it began again with another cut, for the first was too small.
        decided: Whether it is over.
        verdict: The background that it found.
        background: The same, as it looks by now.
        seen: What failed since the cut.
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
        """Begin again, with another cut."""
        self.first, self.settled_at = first, settled_at
        self.seen.clear()

    def add(self, number: int, *, grown: bool) -> None:
        """Count a failure; after growth it speaks against that, not against the cut."""
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
        elif _LEAST <= share <= _MOST and self._telling(share) and self._strewn(share):
            self._decide(self._estimate(requests))

    def _decide(self, background: float) -> None:
        self.decided, self.verdict, self.background = True, background, background

    def _refine(self, number: int, requests: int, *, grown: bool) -> None:
        if self.background and not grown:
            self.seen.add(number)
            self.background = min(_MOST, _STRETCH * self.verdict, self._estimate(requests))

    def _telling(self, share: float) -> bool:
        """Whether these are enough."""
        if share > _MANY and not self.prior:
            return self.again and len(self.seen) >= _TELLING_MORE
        return len(self.seen) >= (_TELLING_MORE if self.prior else _TELLING)

    def _estimate(self, requests: int) -> float:
        if not self.prior:
            # The count was stopped by a failure: without that one, it favours neither more nor less.
            return (len(self.seen) - 1) / (requests - 1)
        # What was known before counts as much as a few failures.
        return (len(self.seen) + _PRIOR) / (requests + _PRIOR / self.prior)

    def _strewn(self, share: float) -> bool:
        """Whether about as many failures come after a request that was taken as would by chance."""
        return sum(number - 1 not in self.seen for number in self.seen) >= _STREWN * (1.0 - share) * len(self.seen)


@attrs.define
class Background:
    """The share of requests that fail whatever one does.

    Attributes:
        at_first: The share that is just too many while no background is known.
        share: That share; 0 until a cut has shown it.
    """

    at_first: float
    share: float = 0.0
    _late: list[int] = attrs.field(factory=list)
    _excess: float = 0.0
    _trial: _Trial | None = None

    @property
    def on_trial(self) -> bool:
        """Whether it is not yet known if the last cut has helped."""
        return self._trial is not None and not self._trial.decided

    @property
    def allowed(self) -> float:
        """The share that is just too many."""
        if not self.share:
            return self.at_first
        return min(max(_TOO_MANY * self.share, self.share + _TOO_MANY_MORE), (1.0 + self.share) / 2)

    def add(self, number: int) -> None:
        """Count the failure of request `number`; answers may overtake each other."""
        bisect.insort(self._late, number)
        del self._late[:-_LATE]

    def forget(self) -> None:
        """Count from the beginning."""
        self._late.clear()

    def excess(self) -> tuple[float, float]:
        """Return how many more failed of late than would be just too many, and what share that was of all."""
        allowed, best, share = self.allowed, 0.0, 0.0
        for failures, number in enumerate(reversed(self._late), 1):
            requests = self._late[-1] - number
            if failures - allowed * requests > best:
                best, share = failures - allowed * requests, failures / (requests + 1)
        self._excess = best
        return best, share

    def suspects(self, number: int) -> bool:
        """Whether, by request `number`, more failed of late than the background explains: no time to grow."""
        if not self.share or not self._late:
            return False
        return self._excess - self.allowed * (number - self._late[-1]) >= _SUSPICIOUS

    def cut(self, number: int, *, at: float, settled_at: float, anew: bool) -> None:
        """Note that less is sent after request `number`: see what that does.

        Args:
            number: The last request that left before.
            at: When the request left whose failure is answered.
            settled_at: When the cut begins to show.
            anew: Whether what is cut has not been cut before.
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
        """Note the failure of a request after a cut; say whether that shows that there was nothing to be cut for.

        Args:
            number: The request.
            at: When it left.
            grown: Whether what was cut has grown since.
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
