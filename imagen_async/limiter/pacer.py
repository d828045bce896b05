"""The interface of the controller, for a replacement of yours, such as one that several processes share.

A protocol and nothing else; `imagen_async.limiter.controller.Controller` is the default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from imagen_async.limiter.permit import Permit, Verdict

__all__ = ["Pacer"]


class Pacer(Protocol):
    """Decides when a request may leave. Called in the event loop, so no method may block."""

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""
        ...

    @property
    def rate(self) -> float:
        """Requests that may leave in a second now; infinity if no limit is known."""
        ...

    @property
    def until(self) -> float:
        """The instant at which the gateway's last pause ends, in the clock's seconds."""
        ...

    def allow(self, most: int) -> None:
        """Set how many requests the clients allow to be in flight."""

    def take(self, *, now: float) -> Permit | float:
        """Permit one request, or return the seconds, above 0, after which to ask again.

        Infinity means: when a request of this process has ended. A pacer that several processes share must not return
        it, because it does not learn of the ends of the others' requests. Anything else, such as 0, NaN, infinity while
        no request is in flight, or an exception, fails every waiting job with a `ConfigurationError`.
        """
        ...

    def ended(self, permit: Permit, verdict: Verdict, /, *, now: float, retry_after: float | None = None) -> None:
        """Learn that a request has ended, and what its result says about the gateway's limits.

        Args:
            permit: What `take` returned for it.
            verdict: Its result.
            now: The instant.
            retry_after: Seconds for which the gateway asked all clients to send nothing, or None.
        """
