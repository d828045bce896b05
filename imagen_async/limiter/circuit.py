"""The retry quota, and the circuit that stops sending while the gateway does not respond.

A token bucket, as in the AWS SDKs' standard retry mode: each retry takes tokens and success returns them, so single
failures are always retried and an outage is not. When the bucket is nearly empty, the circuit opens: only probes leave,
one at a time, each after twice the wait of the one before, until a probe gets a response or the bucket is empty.
Source of the figures: AWS SDKs and Tools Reference Guide, "Retry behavior"; the reserve for probes and the failures in
a row are ours.

Pure: instants are arguments.
"""

from __future__ import annotations

import math

import attrs

from imagen_async._validation import Number

__all__ = ["Circuit", "RetryQuota"]

_LEAST_IN_A_ROW = 10
"""Failures in a row that may be chance, however few requests are in flight."""

_LONGEST_COOLDOWN = 30.0
"""Seconds: the wait for a probe doubles up to this."""


@attrs.frozen(kw_only=True)
class RetryQuota:
    """Retry budget, shared by all clients of a key.

    Retries take tokens from a bucket, and successful requests return them. When the bucket is nearly empty, only single
    probes are sent; when it is empty, everything stops with `OutageError`.

    Attributes:
        capacity: Tokens of a full bucket.
        retry_cost: Tokens of one retry.
        timeout_cost: Tokens of one retry after a timeout, which has occupied a permit for long.
        in_a_row: Failures in a row that count as an outage, however many tokens are left. Twice as many as may be in
            flight count as well, but not fewer than ten.
        reserve: Tokens that only probes may take.
        cooldown: Seconds until the first probe.

    Raises:
        ConfigurationError: A value is not a finite number in its range.
    """

    capacity: int = attrs.field(default=500, validator=Number(1, whole=True))
    retry_cost: int = attrs.field(default=5, validator=Number(1, whole=True))
    timeout_cost: int = attrs.field(default=10, validator=Number(1, whole=True))
    in_a_row: int = attrs.field(default=50, validator=Number(1, whole=True))
    reserve: int = attrs.field(default=40, validator=Number(0, whole=True))
    cooldown: float = attrs.field(default=1.0, validator=Number(0, beyond=True))


class Circuit:
    """Decides whether a request may leave although others failed.

    Args:
        quota: Retry budget.

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
        """Requests that failed since the last response."""
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
        """Return whether waiting is pointless: no probe is in flight or due, and the quota pays for none."""
        return self.tokens < self.quota.retry_cost and 0 < self.wait(now=now) < math.inf

    def pay(self, *, timed_out: bool, now: float) -> int:
        """Pay for a retry.

        Args:
            timed_out: Whether it follows a timeout.
            now: The instant.

        Returns:
            What it cost; 0 if the quota does not allow it, which opens the circuit.
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
        """Return the seconds until a request may leave; infinity while a probe is in flight."""
        if self._probe_at is None:
            return 0.0
        return math.inf if self.probing else max(0.0, self._probe_at - now)

    def sent(self) -> bool:
        """Count a request that leaves; return whether it is a probe."""
        if self._probe_at is None:
            return False
        self.probing = True
        self.tokens = max(0, self.tokens - self.quota.retry_cost)
        return True

    def responded(self, *, paid: int = 0) -> None:
        """Close the circuit: the gateway responded, with whatever status.

        Args:
            paid: Tokens of a retry that succeeded, which are returned; a first attempt returns one.
        """
        self.failures = 0
        self.tokens = min(self.quota.capacity, self.tokens + max(1, paid))
        if self._probe_at is not None:
            # Enough for a few failures; otherwise the first one would open the circuit again.
            self.tokens = max(self.tokens, min(self.quota.capacity, 2 * self.quota.reserve))
        self._probe_at, self.probing, self._cooldown = None, False, self.quota.cooldown

    def failed(self, *, probe: bool, among: int, now: float) -> None:
        """Count a request that failed without a response of the gateway.

        Args:
            probe: Whether it was a probe, as `sent` returned.
            among: How many requests may be in flight.
            now: The instant.
        """
        self.since = self.since if self.failures else now
        self.failures += 1
        if probe and self.probing:
            self.probing = False
            self._cooldown = min(_LONGEST_COOLDOWN, 2 * self._cooldown)
            self._probe_at = now + self._cooldown
        elif not self.open and self.failures >= min(self.quota.in_a_row, max(_LEAST_IN_A_ROW, 2 * among)):
            # Without retries the bucket would never be empty; with few requests in flight, their jobs would use up
            # their attempts before it is.
            self.tokens = min(self.tokens, self.quota.reserve)
            self._probe_at = now + self._cooldown

    def cancelled(self, *, probe: bool) -> None:
        """Count a request that ended without a result, because its caller was cancelled."""
        if probe:
            self.probing = False
