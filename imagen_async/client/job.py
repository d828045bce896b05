"""One job: a request on its way to an outcome, with what has come of it so far.

`retry` and `attempt` fill the record in. It decides only what is still missing, and knows no network.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

import attrs

from imagen_async.client.stop import StoppableWait, StopScope
from imagen_async.exceptions import Attempt, FailureClass, ImagenError
from imagen_async.outcome import Image, Outcome, Status
from imagen_async.request import ImageRequest
from imagen_async.stores import Store

if TYPE_CHECKING:
    from collections.abc import Iterable


__all__ = ["AttemptRecorder", "EncodedRequest", "Job", "Unrecorded"]


class AttemptRecorder(Protocol):
    """Records every request of one job, before and after; an error that it raises ends the job."""

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        """Record that request number `attempt`, for so many images, is about to be sent under this key."""

    async def failed(self, attempt: Attempt) -> None:
        """Record that it failed."""

    async def answered(self, images: int) -> None:
        """Record that it brought so many images, and that another request follows for the missing ones."""


class Unrecorded:
    """Records nothing."""

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        """Do nothing."""

    async def failed(self, attempt: Attempt) -> None:
        """Do nothing."""

    async def answered(self, images: int) -> None:
        """Do nothing."""


@attrs.frozen
class EncodedRequest:
    """A request for some images as it goes over the wire; the same for each attempt that asks for the same images.

    Attributes:
        body: The body.
        idempotency_key: The ``Idempotency-Key``; it ends in a checksum of the body.
    """

    body: bytes
    idempotency_key: str

    @classmethod
    def named(cls, name: str, body: bytes) -> EncodedRequest:
        """Return a request with a key made of a unique name and the body's checksum."""
        return cls(body, f"{name}-{zlib.crc32(body):08x}")

    def under(self, earlier_key: str) -> EncodedRequest:
        """Return the same request under the key of an earlier one, if that one had the same body.

        A gateway may refuse a key that comes back with another body.
        """
        same = earlier_key.rpartition("-")[2] == self.idempotency_key.rpartition("-")[2]
        return attrs.evolve(self, idempotency_key=earlier_key) if same else self


@attrs.define(kw_only=True)
class Job:
    """One request on its way to an outcome.

    Attributes:
        request: The request as it was given; valid.
        encode: Encodes the request for some number of images.
        store: Where its images go.
        image_id: The name of its images.
        missing: Indices of the images that have not arrived, in order.
        notes: Remarks of the validation, and what was unusual since.
        recorder: Records every request.
        stop: Stops the job while it waits.
        sha256: Whether to compute a digest of each image.
        in_doubt: How many requests of earlier runs for these images are in doubt.
        earlier_key: The ``Idempotency-Key`` of the last of them; the first request uses it if its body is the same.
        images: The images that were kept, in order of arrival.
        attempts: The attempts that failed, oldest first.
        requests: How many were sent, or were about to be.
        top_ups: How many of them asked for images that the safety filter had removed.
        reasons: Why images are missing, in the gateway's words.
        started: When the first request had its permit, in the clock's seconds; None before.
        failure: The error of the last attempt; None if it did not fail.
        brought: How many images the last response brought.
        paid: Retry tokens paid for the attempt in flight, if it is a retry.
        created: The time stamp of the last response.
        request_id: The request id of the last response.
        wait: The waits of the job, which `stop` ends.
        encoded: The request for what is missing.
    """

    request: ImageRequest
    encode: Callable[[int], EncodedRequest]
    store: Store
    image_id: str
    missing: tuple[int, ...]
    notes: tuple[str, ...] = ()
    recorder: AttemptRecorder = attrs.field(factory=Unrecorded)
    stop: StopScope = attrs.field(factory=StopScope)
    sha256: bool = False
    in_doubt: int = 0
    earlier_key: str | None = None
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
    wait: StoppableWait = attrs.field(init=False)
    encoded: EncodedRequest = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.wait = StoppableWait(self.stop)
        self.encoded = self.encode(len(self.missing))
        if self.earlier_key is not None:
            self.encoded = self.encoded.under(self.earlier_key)

    def keep(self, images: Iterable[Image]) -> None:
        """Add images that were kept; from now on only the others are requested."""
        before = len(self.images)
        self.images.extend(images)
        self.brought = len(self.images) - before
        if self.brought:
            kept = {image.index for image in self.images}
            self.missing = tuple(index for index in self.missing if index not in kept)
            if self.missing:
                self.renew()

    def renew(self) -> None:
        """Encode a new request: it differs from the one before, so neither body nor key may be used again."""
        self.encoded = self.encode(len(self.missing))

    def count(self, failure: FailureClass) -> int:
        """Return how many attempts failed in this way; those of earlier runs that are in doubt are ambiguous."""
        earlier = self.in_doubt if failure is FailureClass.AMBIGUOUS else 0
        return earlier + sum(attempt.failure is failure for attempt in self.attempts)

    def elapsed(self, now: float) -> float:
        """Return the seconds since the first permit; 0 before."""
        return 0.0 if self.started is None else now - self.started

    def outcome(self, status: Status, *, error: ImagenError | None = None, now: float) -> Outcome:
        """Return the outcome at `now`, in the clock's seconds: the images so far and what is known about the others."""
        return Outcome(
            request=self.request,
            status=status,
            images=tuple(sorted(self.images, key=lambda image: image.index)),
            error=error,
            attempts=tuple(self.attempts),
            notes=self.notes,
            reasons=self.reasons,
            created=self.created,
            request_id=self.request_id if error is None else getattr(error, "request_id", None),
            elapsed_s=self.elapsed(now),
        )
