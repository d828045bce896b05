"""What happens to jobs and to the pool, as frozen values for callbacks.

A callback is an ordinary function; it is called in the event loop, at once, and must not block. One that raises is
logged and does no harm. Without callbacks no event is made.
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
    """Something has happened.

    Attributes:
        at: When, in seconds since the epoch.
    """

    at: float


@attrs.frozen(kw_only=True)
class JobEvent(Event):
    """Something has happened to one job.

    Attributes:
        job: What its images are called.
        request: What was asked.
    """

    job: str
    request: ImageRequest


@attrs.frozen(kw_only=True)
class Queued(JobEvent):
    """The job waits for its first slot."""


@attrs.frozen(kw_only=True)
class Started(JobEvent):
    """A request leaves.

    Attributes:
        attempt: Its number, from 1.
        images: Images that it asks for.
    """

    attempt: int
    images: int


@attrs.frozen(kw_only=True)
class Retry(JobEvent):
    """An attempt has failed, and the job will be tried again.

    Attributes:
        failed: The attempt.
        delay: Seconds until it waits for a slot again.
    """

    failed: Attempt
    delay: float


@attrs.frozen(kw_only=True)
class Saved(JobEvent):
    """Images were verified and kept.

    Attributes:
        images: They.
    """

    images: tuple[Image, ...]


@attrs.frozen(kw_only=True)
class Filtered(JobEvent):
    """The gateway answered well, with fewer images than asked, or none.

    Attributes:
        missing: How many.
        reasons: Why, in the gateway's words, if it has any.
    """

    missing: int
    reasons: tuple[str, ...]


@attrs.frozen(kw_only=True)
class Failed(JobEvent):
    """The job has ended with an error.

    Attributes:
        status: ``failed``, ``in_doubt``, ``filtered``, or ``partial`` if some images were kept.
        error: The error.
    """

    status: Status
    error: ImagenError


@attrs.frozen(kw_only=True)
class Paused(Event):
    """The gateway wants nobody to send for a while.

    Attributes:
        seconds: How long, from now.
    """

    seconds: float


@attrs.frozen(kw_only=True)
class Throttled(Event):
    """The gateway takes less than was thought.

    Attributes:
        limit: Requests that may be in flight now.
        rate: Requests a second that may leave now; infinity where nothing limits them.
    """

    limit: int
    rate: float


@attrs.frozen(kw_only=True)
class Stopped(Event):
    """No job can succeed any more: nothing further is sent.

    Attributes:
        error: Why.
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
            except Exception:  # noqa: BLE001 - foreign code: what it does wrong must not cost an image
                LOG.exception("a callback failed on %s", type(event).__name__)
