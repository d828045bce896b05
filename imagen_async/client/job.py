"""One job: a request on its way to an outcome, with what has come of it so far.

A record that `attempts` fills in. It decides nothing but what is still missing, and knows no network.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import attrs

from imagen_async.client.stop import StopScope
from imagen_async.exceptions import Attempt, FailureClass, ImagenError
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.request import ImageRequest
from imagen_async.stores import Store

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["Ask", "AttemptRecorder", "Job", "Unrecorded"]


class AttemptRecorder(Protocol):
    """Is told of every request of one job, before and after; what it raises ends the job."""

    async def sending(self, attempt: int, images: int) -> None:
        """Request number `attempt`, for so many images, is about to be sent."""

    async def failed(self, attempt: Attempt) -> None:
        """It has failed."""

    async def answered(self, images: int) -> None:
        """It was answered with so many images, and another one will ask for what is missing."""


class Unrecorded:
    """Is told, and does nothing."""

    async def sending(self, attempt: int, images: int) -> None:
        """Let it be sent."""

    async def failed(self, attempt: Attempt) -> None:
        """Let it be tried again."""

    async def answered(self, images: int) -> None:
        """Let the next one be sent."""


@attrs.frozen
class Ask:
    """What goes over the wire for some images; the same for each attempt that asks for the same images.

    Attributes:
        body: The request's body.
        idempotency_key: Its ``Idempotency-Key``.
    """

    body: bytes
    idempotency_key: str


@attrs.define(kw_only=True)
class Job:
    """One request on its way to an outcome.

    Attributes:
        request: As it was given; valid.
        compose: Makes the request for so many images.
        store: Where its images go.
        image_id: What its images are called.
        missing: Indices of the images that have not arrived, in order.
        notes: What the validation noted, and what was unusual since.
        witness: Is told of every request.
        withdrawal: Lets it go while it waits.
        sha256: Whether to make a digest of each image.
        images: What was kept, in order of arrival.
        attempts: The attempts that failed, oldest first.
        requests: How many were sent, or were about to be.
        top_ups: How many of them asked for images that the safety filter had taken.
        reasons: Why images are missing, in the gateway's words.
        started: When the first request had its slot, in the clock's seconds; None before.
        failure: The error of the last attempt; None if it did not fail.
        brought: How many images the last answer brought.
        paid: What was paid for the attempt under way, if it is a retry.
        created: The time stamp of the last answer.
        request_id: Its request id.
    """

    request: ImageRequest
    compose: Callable[[int], Ask]
    store: Store
    image_id: str
    missing: tuple[int, ...]
    notes: tuple[str, ...] = ()
    witness: AttemptRecorder = attrs.field(factory=Unrecorded)
    withdrawal: StopScope = attrs.field(factory=StopScope)
    sha256: bool = False
    images: list[Image] = attrs.field(factory=list)
    attempts: list[Attempt] = attrs.field(factory=list)
    requests: int = 0
    top_ups: int = 0
    reasons: tuple[str, ...] = ()
    started: float | None = None
    failure: ImagenError | None = None
    brought: int = 0
    paid: int = 0
    created: int | None = None
    request_id: str | None = None
    ask: Ask = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.ask = self.compose(len(self.missing))

    def keep(self, images: Iterable[Image]) -> None:
        """Note images that were kept; from now on only the others are asked for."""
        before = len(self.images)
        self.images.extend(images)
        if len(self.images) > before:
            kept = {image.index for image in self.images}
            self.missing = tuple(index for index in self.missing if index not in kept)
            if self.missing:
                self.renew()

    def renew(self) -> None:
        """Ask anew: not for what was asked before, so neither its body nor its key may be used again."""
        self.ask = self.compose(len(self.missing))

    def count(self, failure: FailureClass) -> int:
        """Return how many attempts failed so."""
        return sum(attempt.failure is failure for attempt in self.attempts)

    def outcome(self, status: Status, *, error: ImagenError | None = None, elapsed_s: float) -> Outcome:
        """Make the outcome of what has come of it."""
        named = getattr(error, "request_id", None)
        return Outcome(
            request=self.request,
            status=status,
            images=tuple(sorted(self.images, key=lambda image: image.index)),
            error=error,
            attempts=tuple(self.attempts),
            notes=self.notes,
            reasons=self.reasons,
            created=self.created,
            request_id=self.request_id if error is None else named,
            elapsed_s=elapsed_s,
        )
