"""Options of a sandbox gateway, validated before it listens.

`SandboxOptions` is the one declaration. The keywords of `SandboxGateway` and `running_sandbox` take their names and
types from it, and the command line takes the first sentence of each attribute as the option's help. Clock, sleep and
seed are options, too, so that a run can be repeated.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar

import attrs

from imagen_async.catalog import CATALOG
from imagen_async.exceptions import ConfigurationError
from imagen_async.sandbox.faults import FAULTS
from imagen_async.sandbox.ledger import LedgerEntry

__all__ = ["SANDBOX_KEY", "SandboxArguments", "SandboxOptions", "keywords_of", "method_keywords_of"]

SANDBOX_KEY = "sk-" + "sandbox0" * 6
"""The default key of a sandbox: of the contract's form, and valid nowhere else."""

P = ParamSpec("P")
R = TypeVar("R")


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
        host: Address to listen on; any but the default opens the sandbox to the network.
        port: Port to listen on; 0 takes a free one.
        api_key: The only key that is accepted.
        models: The model ids that exist.
        unknown_model_status: Status for any other model id: 404, or 503 with code ``model_not_found``.
        latency: Seconds that the work on a request takes, a number or a ``(low, high)`` range to draw from.
        rpm: Requests admitted in any 60 seconds; further ones get a 429 and do not count. None: no limit.
        max_concurrent: Requests processed concurrently; further ones get a 429. None: no limit.
        retry_after: ``Retry-After`` of every 429, in seconds. ``"exact"`` sends the time until a request is admitted
            again, rounded up, or 1 where that is unknown; None sends none.
        faults: Share of requests, 0 to 1, that meet each fault, by name; see `imagen_async.sandbox.FAULTS`. The
            shares add up to at most 1.
        faults_per_body: Only this many requests with the same body can meet a fault. With 1 and a share of 1,
            every request fails once and then succeeds. None: all can.
        filtered: Share of requests whose images are all filtered. The same as ``faults={"filtered": …}``.
        short: Share of requests that return fewer images than asked. The same as ``faults={"short": …}``.
        slow_s: Seconds over which a ``slow`` response is sent.
        stall_s: Seconds of silence of a ``stall`` before the connection closes.
        seed: Seed of every draw: the same seed, the same faults. Draws depend on it, on a request's body and on how
            often that body was seen before, not on the order in which requests arrive.
        ledger: File to which every request and bill is appended, a JSON line each. None keeps the ledger in memory.
        images: ``"realistic"``: true pixel sizes and weights. ``"tiny"``: the same proportions at a 64th of each
            side, about 100 to 1,000 bytes each, for fast test suites.
        on_request: Called with the ledger entry of each request when its response has been sent.
        sleep: Waits for a number of seconds.
        clock: Returns monotonic seconds, for `rpm`.
        wall_clock: Returns seconds since the epoch.

    Raises:
        ConfigurationError: A value is invalid; the message lists every mistake.

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
            raise ConfigurationError("invalid sandbox options: " + "; ".join(problems))

    @property
    def fault_rates(self) -> Mapping[str, float]:
        """The share of each fault that is above 0, with `filtered` and `short`."""
        rates = {**self.faults}
        for name, rate in (("filtered", self.filtered), ("short", self.short)):
            rates[name] = rates.get(name, 0.0) + rate
        return {name: rate for name, rate in rates.items() if rate}

    def _problems(self) -> Iterator[str]:
        if unknown := sorted(set(self.faults) - set(FAULTS)):
            yield f"no such fault: {', '.join(unknown)} (known: {', '.join(FAULTS)})"
        if not all(0 <= rate <= 1 for rate in (*self.faults.values(), self.filtered, self.short)):
            yield "shares of faults must be numbers from 0 to 1"
        elif sum(self.fault_rates.values()) > 1 + 1e-9:
            yield "the shares of all faults together must not exceed 1"
        if not 0 <= self.latency[0] <= self.latency[1]:
            yield "latency must be seconds, or (low, high) with 0 <= low <= high"
        yield from self._problems_of_limits()
        if self.unknown_model_status not in (404, 503):
            yield "unknown_model_status must be 404 or 503"
        if self.images not in ("realistic", "tiny"):
            yield "images must be 'realistic' or 'tiny'"
        if not self.api_key or not self.api_key.isascii() or not self.api_key.isprintable() or " " in self.api_key:
            yield "api_key must be printable ASCII without spaces"

    def _problems_of_limits(self) -> Iterator[str]:
        counts = (("rpm", self.rpm), ("max_concurrent", self.max_concurrent))
        for name, value in counts:
            if value is not None and value < 1:
                yield f"{name} must be at least 1, or None"
        if self.faults_per_body is not None and self.faults_per_body < 0:
            yield "faults_per_body must be at least 0, or None"
        if self.retry_after not in (None, "exact") and not _is_seconds(self.retry_after):
            yield "retry_after must be seconds from 0, 'exact' or None"
        if min(self.slow_s, self.stall_s) < 0:
            yield "slow_s and stall_s must be at least 0 seconds"


@attrs.frozen
class SandboxArguments(SandboxOptions):
    """The arguments of `SandboxGateway`, for type checkers: options as one value, and keywords that override them."""

    options: SandboxOptions | None = None


def keywords_of(_declared: Callable[P, object]) -> Callable[[Callable[..., R]], Callable[P, R]]:
    """Let type checkers see a function's ``**keywords`` as the arguments of `_declared`; it is not called."""
    return lambda function: function


def method_keywords_of(
    _declared: Callable[P, object],
) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """Do for a method what `keywords_of` does for a function."""
    return lambda function: function
