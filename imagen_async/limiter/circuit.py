"""How much trying again may cost in all, and when to stop sending because nothing comes back.

A token bucket in the manner of the AWS SDKs' standard retry mode: each retry takes tokens, success gives them back, so
that single failures are always tried again and an outage is not. When the bucket is nearly empty the circuit opens:
nothing leaves but one probe at a time, each waiting twice as long as the one before, until one of them is answered or
the rest of the bucket is used up. Source of the figures: AWS SDKs and Tools Reference Guide, "Retry behavior"; the
reserve for probes and the failures in a row are ours.

Arithmetic on instants that the caller gives.
"""

from __future__ import annotations

import math

import attrs

__all__ = ["Circuit", "RetryQuota"]

_LEAST_IN_A_ROW = 10
"""Failures in a row that may be chance however few are in flight."""

_LONGEST_COOLDOWN = 30.0
"""Seconds that the wait for a probe doubles to."""


@attrs.frozen(kw_only=True)
class RetryQuota:
    """What may be spent on trying again before something succeeds.

    Attributes:
        capacity: Tokens in the bucket at first, and at most.
        retry_cost: Tokens of one retry.
        timeout_cost: Tokens of one retry after a time-out, which has kept a slot for long.
        in_a_row: Failures without an answer between them that are an outage, however much is left; twice as many as
            may be in flight are one as well, but not fewer than ten.
        reserve: Tokens that are left to probes.
        cooldown: Seconds until the first probe.
    """

    capacity: int = attrs.field(default=500, validator=attrs.validators.ge(1))
    retry_cost: int = attrs.field(default=5, validator=attrs.validators.ge(1))
    timeout_cost: int = attrs.field(default=10, validator=attrs.validators.ge(1))
    in_a_row: int = attrs.field(default=50, validator=attrs.validators.ge(1))
    reserve: int = attrs.field(default=40, validator=attrs.validators.ge(0))
    cooldown: float = attrs.field(default=1.0, validator=attrs.validators.gt(0))


class Circuit:
    """Says whether a request may leave although others failed.

    Args:
        quota: What may be spent on trying again.

    Example:
        >>> circuit = Circuit(RetryQuota(capacity=10, retry_cost=5, reserve=5))
        >>> circuit.pay(timed_out=False, now=0.0), circuit.pay(timed_out=False, now=0.0)
        (5, 0)
        >>> circuit.wait(now=0.0), circuit.wait(now=1.0)
        (1.0, 0.0)
    """

    def __init__(self, quota: RetryQuota | None = None) -> None:
        self.quota = quota or RetryQuota()
        self.tokens = self.quota.capacity
        self.failures = 0
        """Requests that failed since one was answered."""
        self.since = -math.inf
        """When the first of them failed."""
        self._probe_at: float | None = None
        """When the next probe may leave; None while the circuit is closed."""
        self._cooldown = self.quota.cooldown
        self.probing = False

    def __repr__(self) -> str:
        return f"<Circuit {'open' if self.open else 'closed'}: {self.tokens} of {self.quota.capacity} tokens>"

    @property
    def open(self) -> bool:
        """Whether only probes may leave."""
        return self._probe_at is not None

    def lost(self, *, now: float) -> bool:
        """Say whether waiting is in vain: no probe is under way or due, and none can be paid."""
        return self.tokens < self.quota.retry_cost and 0 < self.wait(now=now) < math.inf

    def pay(self, *, timed_out: bool, now: float) -> int:
        """Pay for a retry.

        Args:
            timed_out: Whether it follows a time-out.
            now: The instant.

        Returns:
            What it cost; 0 if the bucket does not allow it, which opens the circuit.
        """
        cost = self.quota.timeout_cost if timed_out else self.quota.retry_cost
        if self.open:
            return 0  # a probe is paid for when it leaves
        if self.tokens - cost < self.quota.reserve:
            self._probe_at = now + self.quota.cooldown
            return 0
        self.tokens -= cost
        return cost

    def wait(self, *, now: float) -> float:
        """Return the seconds until a request may leave; infinity while a probe is under way."""
        if self._probe_at is None:
            return 0.0
        return math.inf if self.probing else max(0.0, self._probe_at - now)

    def sent(self) -> bool:
        """Note that a request leaves; say whether it is a probe."""
        if self._probe_at is None:
            return False
        self.probing = True
        self.tokens = max(0, self.tokens - self.quota.retry_cost)
        return True

    def answered(self, *, paid: int = 0) -> None:
        """Note that the gateway lives, whatever it said: the circuit closes.

        Args:
            paid: What a retry that succeeded had cost, which is given back; a first attempt gives one token.
        """
        self.failures = 0
        self.tokens = min(self.quota.capacity, self.tokens + max(1, paid))
        if self._probe_at is not None:
            # Room for a few failures, or the first one would open it again.
            self.tokens = max(self.tokens, min(self.quota.capacity, 2 * self.quota.reserve))
        self._probe_at, self.probing, self._cooldown = None, False, self.quota.cooldown

    def failed(self, *, probe: bool, among: int, now: float) -> None:
        """Note that a request has failed without a word of the gateway's.

        Args:
            probe: What `sent` said of it.
            among: How many may be in flight.
            now: The instant.
        """
        self.since = self.since if self.failures else now
        self.failures += 1
        if probe and self.probing:
            self.probing = False
            self._cooldown = min(_LONGEST_COOLDOWN, 2 * self._cooldown)
            self._probe_at = now + self._cooldown
        elif not self.open and self.failures >= min(self.quota.in_a_row, max(_LEAST_IN_A_ROW, 2 * among)):
            # No need to wait until the bucket is empty, which it never is where nothing is tried again; and where few
            # are in flight, their jobs would have used up their attempts before.
            self.tokens = min(self.tokens, self.quota.reserve)
            self._probe_at = now + self._cooldown

    def given_up(self, *, probe: bool) -> None:
        """Note that a request has ended without telling anything: nobody waited for it any more."""
        if probe:
            self.probing = False
