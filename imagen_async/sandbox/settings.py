"""What a sandbox gateway can be told to do, checked before it listens.

One frozen value holds every option, with clock, sleep and randomness's seed among them, so that a run can be
repeated. Nothing here opens a socket or a file.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal, TypedDict

import attrs

from imagen_async.catalog import CATALOG
from imagen_async.exceptions import ConfigurationError
from imagen_async.sandbox.faults import FAULTS
from imagen_async.sandbox.ledger import LedgerEntry

__all__ = ["SANDBOX_KEY", "SandboxKeywords", "SandboxOptions"]

SANDBOX_KEY = "sk-" + "sandbox0" * 6
"""The key that a sandbox takes unless told otherwise: of the contract's shape, and good for nothing else."""


class SandboxKeywords(TypedDict, total=False):
    """`SandboxOptions`' fields as keyword arguments; their meaning is told there."""

    host: str
    port: int
    api_key: str
    models: Collection[str]
    unknown_model_status: Literal[404, 503]
    latency: float | tuple[float, float]
    rpm: int | None
    max_concurrent: int | None
    retry_after: float | Literal["exact"] | None
    faults: Mapping[str, float]
    faults_per_body: int | None
    filtered: float
    short: float
    slow_s: float
    stall_s: float
    seed: int
    ledger: str | Path | None
    images: Literal["realistic", "tiny"]
    on_request: Callable[[LedgerEntry], None] | None
    sleep: Callable[[float], Awaitable[object]]
    clock: Callable[[], float]
    wall_clock: Callable[[], float]


def _range(value: float | tuple[float, float]) -> tuple[float, float]:
    low, high = value if isinstance(value, tuple) else (value, value)
    return float(low), float(high)


def _rates(value: Mapping[str, float]) -> Mapping[str, float]:
    return MappingProxyType({str(name): float(rate) for name, rate in value.items()})


def _path(value: str | Path | None) -> Path | None:
    return None if value is None else Path(value)


def _is_seconds(value: object) -> bool:
    return isinstance(value, int | float) and value >= 0


def _names(value: Collection[str]) -> tuple[str, ...]:
    return tuple(value)


@attrs.frozen(kw_only=True)
class SandboxOptions:
    """How a sandbox gateway behaves.

    Attributes:
        host: Address to listen on. Anything but loopback opens the sandbox to the network.
        port: Port to listen on; 0 takes a free one.
        api_key: The only key that is let in.
        models: The model ids that exist.
        unknown_model_status: What any other model id gets: 404, or 503 with code ``model_not_found``.
        latency: Seconds that the work on a request takes: a number, or ``(low, high)`` to draw from.
        rpm: Requests admitted in any 60 seconds (a sliding window); those refused do not count. None: no limit.
        max_concurrent: Requests worked on at once; one more gets a 429. None: no limit.
        retry_after: ``Retry-After`` of every 429, in seconds; ``"exact"`` sends the time until the window has
            room, rounded up (1 where that is unknown); None sends none.
        faults: Fault name to the share of requests, 0 to 1, that meet it; see `imagen_async.sandbox.FAULTS`.
            The shares add up to at most 1.
        faults_per_body: Only the first so many requests with the same body can meet a fault: with 1 and a share
            of 1, everything fails once and then works. None: every one can.
        filtered: Share of requests whose images are all filtered; short for ``faults={"filtered": …}``.
        short: Share of requests answered with fewer images than asked; short for ``faults={"short": …}``.
        slow_s: Seconds over which a ``slow`` answer drips.
        stall_s: Seconds of silence of a ``stall`` before the connection closes.
        seed: Where every draw starts. Draws depend on it, on a request's body and on how often that body was seen
            before, not on the order in which requests arrive.
        ledger: File to which every request is appended, a JSON line at a time; None keeps the ledger in memory.
        images: ``"realistic"``: true pixel sizes and weights. ``"tiny"``: the same proportions at a 64th of each
            side, about 100 to 1,000 bytes each, for fast test suites.
        on_request: Called with the ledger's entry of each request when it has been dealt with.
        sleep: Waits for seconds.
        clock: Seconds that only go up, for `rpm`.
        wall_clock: Seconds since the epoch.

    Raises:
        ConfigurationError: An option does not fit; every mistake is listed.

    Example:
        >>> SandboxOptions(latency=(1, 3), faults={"500": 0.05}).latency
        (1.0, 3.0)
    """

    host: str = "127.0.0.1"
    port: int = 0
    api_key: str = attrs.field(default=SANDBOX_KEY, repr=False)
    models: tuple[str, ...] = attrs.field(default=tuple(CATALOG), converter=_names)
    unknown_model_status: Literal[404, 503] = 404
    latency: tuple[float, float] = attrs.field(default=(0.0, 0.0), converter=_range)
    rpm: int | None = None
    max_concurrent: int | None = None
    retry_after: float | Literal["exact"] | None = None
    faults: Mapping[str, float] = attrs.field(factory=dict, converter=_rates)
    faults_per_body: int | None = None
    filtered: float = 0.0
    short: float = 0.0
    slow_s: float = 2.0
    stall_s: float = 30.0
    seed: int = 0
    ledger: Path | None = attrs.field(default=None, converter=_path)
    images: Literal["realistic", "tiny"] = "realistic"
    on_request: Callable[[LedgerEntry], None] | None = None
    sleep: Callable[[float], Awaitable[object]] = attrs.field(default=asyncio.sleep, repr=False)
    clock: Callable[[], float] = attrs.field(default=time.monotonic, repr=False)
    wall_clock: Callable[[], float] = attrs.field(default=time.time, repr=False)

    def __attrs_post_init__(self) -> None:
        if problems := tuple(self._problems()):
            raise ConfigurationError("the sandbox cannot be set up so: " + "; ".join(problems))

    @property
    def fault_rates(self) -> Mapping[str, float]:
        """Every fault with a share above 0, `filtered` and `short` among them."""
        rates = {**self.faults}
        for name, rate in (("filtered", self.filtered), ("short", self.short)):
            rates[name] = rates.get(name, 0.0) + rate
        return {name: rate for name, rate in rates.items() if rate}

    def _problems(self) -> Iterator[str]:
        if unknown := sorted(set(self.faults) - set(FAULTS)):
            yield f"no such fault: {', '.join(unknown)} (known: {', '.join(FAULTS)})"
        if not all(0 <= rate <= 1 for rate in (*self.faults.values(), self.filtered, self.short)):
            yield "shares of faults are numbers from 0 to 1"
        elif sum(self.fault_rates.values()) > 1 + 1e-9:
            yield "the shares of all faults together must not exceed 1"
        if not 0 <= self.latency[0] <= self.latency[1]:
            yield "latency is seconds, or (low, high) with 0 <= low <= high"
        yield from self._problems_of_limits()
        if self.unknown_model_status not in (404, 503):
            yield "unknown_model_status is 404 or 503"
        if self.images not in ("realistic", "tiny"):
            yield "images is 'realistic' or 'tiny'"
        if not self.api_key or not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            yield "api_key is printable ASCII without spaces"

    def _problems_of_limits(self) -> Iterator[str]:
        counts = (("rpm", self.rpm), ("max_concurrent", self.max_concurrent))
        for name, value in counts:
            if value is not None and value < 1:
                yield f"{name} is at least 1, or None"
        if self.faults_per_body is not None and self.faults_per_body < 0:
            yield "faults_per_body is at least 0, or None"
        if self.retry_after not in (None, "exact") and not _is_seconds(self.retry_after):
            yield "retry_after is seconds from 0, 'exact' or None"
        if min(self.slow_s, self.stall_s) < 0:
            yield "slow_s and stall_s are at least 0 seconds"
