"""What a pace must be able to do, so that another one can take the place of ours: one shared between processes, say.

A protocol and nothing else. `imagen_async.limiter.controller.Controller` is the one that is used by default.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from imagen_async.limiter.permit import Permit, Verdict

__all__ = ["Pacer"]


class Pacer(Protocol):
    """Says when a request may leave; asked by one event loop, and never made to wait."""

    @property
    def limit(self) -> int:
        """Requests that may be in flight now."""

    @property
    def rate(self) -> float:
        """Requests a second that may leave now; infinity where nothing limits them."""

    @property
    def until(self) -> float:
        """The instant at which the gateway's last pause ends, in the clock's seconds."""

    def allow(self, most: int) -> None:
        """Take note that up to `most` requests may be in flight as far as the clients are concerned."""

    def take(self, *, now: float) -> Permit | float:
        """Let a request leave, or say how many seconds from now to ask again.

        Infinity means: when a request of this process has ended. A pace that others share must not say so, for of the
        end of theirs nobody here is told.
        """

    def ended(self, ticket: Permit, verdict: Verdict, *, now: float, retry_after: float | None = None) -> None:
        """Note that the request of `ticket` has ended, and what that says of the gateway's limits."""
