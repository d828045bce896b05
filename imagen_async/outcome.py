"""What came of a request: plain frozen values, the same for one image and for a million.

An outcome is never raised: a failed job is an outcome whose `error` is the typed error that `generate` would
have raised. Nothing here knows how an image travelled or where it was put.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import attrs

from imagen_async.exceptions import Attempt, ImagenError
from imagen_async.request import ImageRequest

__all__ = ["Image", "Outcome", "Status"]


class Status(enum.StrEnum):
    """How a job ended."""

    SUCCEEDED = "succeeded"
    """As many images as asked."""
    PARTIAL = "partial"
    """Some images, fewer than asked."""
    FILTERED = "filtered"
    """None: the safety filter took them."""
    FAILED = "failed"
    """None, and nothing was billed as far as can be known."""
    IN_DOUBT = "in_doubt"
    """None received, but the request may have been billed."""
    SKIPPED = "skipped"
    """Done by an earlier run."""


def _copied(value: Mapping[str, Any]) -> Mapping[str, Any]:
    return dict(value)


@attrs.frozen(kw_only=True)
class Image:
    """One image that arrived whole, was verified, and was kept.

    Attributes:
        index: Its place among the job's images, from 0.
        format: ``png``, ``jpeg`` or ``webp``: what the bytes are, not what was asked.
        width: Pixels.
        height: Pixels.
        size: Bytes.
        sha256: Hex digest of the bytes, or None if the store was told not to make one.
        data: The bytes, if the store keeps them in memory.
        path: Where the file is, if the store keeps files; otherwise what the store calls the place.
        details: What the gateway said of this image (``revised_prompt`` and the like).
        notes: What is unusual about it, such as JPEG bytes where PNG was asked.
    """

    index: int
    format: str
    width: int
    height: int
    size: int
    sha256: str | None = None
    data: bytes | None = attrs.field(default=None, repr=False)
    path: str | None = None
    details: Mapping[str, Any] = attrs.field(factory=dict, converter=_copied, hash=False)
    notes: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Outcome:
    """What came of one request.

    Attributes:
        request: The request as it was given.
        status: How it ended.
        images: Those that were kept, in the order of their index.
        error: The typed error behind `failed`, `filtered` and `in_doubt`, and behind a `partial` whose missing images
            failed to arrive; None otherwise.
        attempts: The attempts that failed on the way, oldest first.
        notes: What is unusual but passed, such as an unknown model.
        reasons: Why images are missing, in the gateway's words, if it gave any.
        created: The gateway's time stamp, seconds since the epoch, or None.
        request_id: The answer's request id, or None.
        elapsed_s: Seconds from the first attempt's slot to the end.
    """

    request: ImageRequest
    status: Status
    images: tuple[Image, ...] = ()
    error: ImagenError | None = None
    attempts: tuple[Attempt, ...] = ()
    notes: tuple[str, ...] = ()
    reasons: tuple[str, ...] = ()
    created: int | None = None
    request_id: str | None = None
    elapsed_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there is nothing left to do for this request."""
        return self.status in {Status.SUCCEEDED, Status.SKIPPED}
