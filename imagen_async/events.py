"""Events of jobs and of the limiter, as frozen values for callbacks.

A callback is an ordinary function. The event loop calls it immediately, so it must not block; an exception that it
raises is logged and changes nothing. Without callbacks no event is created.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from imagen_async._log import LOG
from imagen_async.exceptions import Attempt, ImagenError
from imagen_async.outcome import Image, Status
from imagen_async.request import ImageRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Event",
    "Failed",
    "Filtered",
    "JobEvent",
    "Listeners",
    "Paused",
    "Queued",
    "Retry",
    "Saved",
    "Started",
    "Stopped",
    "Throttled",
]


@attrs.frozen(kw_only=True)
class Event:
    """The base class of all events.

    Attributes:
        at: When it happened, in seconds since the epoch.
    """

    at: float


@attrs.frozen(kw_only=True)
class JobEvent(Event):
    """The base class of the events of one job.

    Attributes:
        job: The name of its images.
        request: Its request.
    """

    job: str
    request: ImageRequest


@attrs.frozen(kw_only=True)
class Queued(JobEvent):
    """The job waits for its first permit."""


@attrs.frozen(kw_only=True)
class Started(JobEvent):
    """A request is sent.

    Attributes:
        attempt: Its number, from 1.
        images: The number of images that it requests.
    """

    attempt: int
    images: int


@attrs.frozen(kw_only=True)
class Retry(JobEvent):
    """An attempt failed, and the job is retried.

    Attributes:
        failed: The failed attempt.
        delay: Seconds until the job waits for a permit again.
    """

    failed: Attempt
    delay: float


@attrs.frozen(kw_only=True)
class Saved(JobEvent):
    """Images were verified and kept.

    Attributes:
        images: The images.
    """

    images: tuple[Image, ...]


@attrs.frozen(kw_only=True)
class Filtered(JobEvent):
    """A valid response has fewer images than requested, or none.

    Attributes:
        missing: The number of missing images.
        reasons: Why they are missing, in the gateway's words, if it names reasons.
    """

    missing: int
    reasons: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Failed(JobEvent):
    """The job ended with an error.

    Attributes:
        status: ``failed``, ``in_doubt``, ``filtered``, or ``partial`` if some images were kept.
        error: The error.
    """

    status: Status
    error: ImagenError


@attrs.frozen(kw_only=True)
class Paused(Event):
    """The gateway asked for a pause, in which no client of the key sends.

    Attributes:
        seconds: Seconds from now until its end.
    """

    seconds: float


@attrs.frozen(kw_only=True)
class Throttled(Event):
    """A limit was lowered, because the gateway refused requests.

    Attributes:
        limit: Requests that may be in flight now.
        rate: Requests that may leave in a second now; infinity if no limit is known.
    """

    limit: int
    rate: float


@attrs.frozen(kw_only=True)
class Stopped(Event):
    """An error stopped everything: nothing more is sent.

    Attributes:
        error: The error.
    """

    error: ImagenError


class Listeners:
    """Dispatches events to callbacks; a caller makes no event if there are none.

    Args:
        callbacks: Called with each event, in the event loop.

    Attributes:
        callbacks: The callbacks.

    Example:
        >>> heard = []
        >>> listeners = Listeners([heard.append])
        >>> if listeners.callbacks:
        ...     listeners.tell(Paused(at=0.0, seconds=2.0))
        >>> heard
        [Paused(at=0.0, seconds=2.0)]
    """

    def __init__(self, callbacks: Sequence[Callable[[Event], object]] = ()) -> None:
        self.callbacks = tuple(callbacks)

    def tell(self, event: Event) -> None:
        """Call each callback; one that raises is logged."""
        for callback in self.callbacks:
            try:
                callback(event)
            except Exception:  # noqa: BLE001 - foreign code; its error must not cost an image
                LOG.exception("a callback failed on %s", type(event).__name__)
