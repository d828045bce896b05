"""How long to wait before another attempt, and when to stop trying.

Full jitter: a wait is drawn evenly between nothing and a ceiling that doubles with each failure, which spreads a
crowd of retries best (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from typing import Literal

import attrs

from imagen_async._validation import Choice, Number
from imagen_async.exceptions import FailureClass

__all__ = ["RetryPolicy"]

_MOST_DOUBLINGS = 30
_RETRYABLE = frozenset({FailureClass.NEVER_SENT, FailureClass.REFUSED, FailureClass.AMBIGUOUS})


@attrs.frozen(kw_only=True)
class RetryPolicy:
    """Whether, when and how often a job is retried.

    Attributes:
        on_ambiguous: What to do when a request was sent and its response was lost, which may have been billed: retry
            ``once``, which may buy the images twice at most, ``retry`` as often as `max_attempts` allows, or ``fail``.
            A batch counts such requests across runs, those that an interrupted run left in flight included.
        top_up: How often the images that the safety filter removed are requested again; each request costs the images
            that it brings.
        max_attempts: Most attempts of one job; refusals (429) do not count, because they cost nothing.
        max_elapsed: Seconds since its first attempt after which a job is not retried.
        initial: Ceiling of the first wait, in seconds.
        longest: Ceiling of each wait, in seconds; a gateway's ``Retry-After`` may be longer.

    Raises:
        ConfigurationError: A value is not a finite number in its range, or `on_ambiguous` is another text.

    Example:
        >>> RetryPolicy(initial=0.5).delay(failures=3, draw=0.5)
        1.0
    """

    on_ambiguous: Literal["once", "retry", "fail"] = attrs.field(
        default="once", validator=Choice(("once", "retry", "fail"))
    )
    top_up: int = attrs.field(default=0, validator=Number(0, whole=True))
    max_attempts: int = attrs.field(default=5, validator=Number(1, whole=True))
    max_elapsed: float = attrs.field(default=1800.0, validator=Number(0))
    initial: float = attrs.field(default=0.5, validator=Number(0))
    longest: float = attrs.field(default=60.0, validator=Number(0))

    def delay(self, *, failures: int, draw: float) -> float:
        """Return the seconds to wait after a failure; the limiter adds the wait that a gateway asks for.

        Args:
            failures: How many attempts have failed, from 1.
            draw: A random number from 0 to 1.
        """
        return draw * min(self.longest, self.initial * 2.0 ** min(failures - 1, _MOST_DOUBLINGS))

    def tries_again(
        self,
        failure: FailureClass | None,
        *,
        attempts: int,
        ambiguous: int = 0,
        elapsed: float,
        should_retry: bool | None = None,
    ) -> bool:
        """Decide whether a job is tried again.

        Args:
            failure: What the last failure means; None if it is not the failure of an attempt.
            attempts: Attempts so far, refusals not counted.
            ambiguous: How many of them may have been billed.
            elapsed: Seconds from the start of the first attempt to that of the next.
            should_retry: The gateway's own word, which overrides the failure's class, though not the bounds.
        """
        if failure is None or failure is FailureClass.FATAL or elapsed >= self.max_elapsed:
            return False
        if failure is FailureClass.AMBIGUOUS and ambiguous > self._most_ambiguous():
            return False
        wanted = failure in _RETRYABLE if should_retry is None else should_retry
        return wanted and (failure is FailureClass.REFUSED or attempts < self.max_attempts)

    def may_send_again(self, *, ambiguous: int) -> bool:
        """Return whether another attempt is allowed after so many that may have been billed, in whatever run."""
        return ambiguous <= self._most_ambiguous() and ambiguous < self.max_attempts

    def _most_ambiguous(self) -> float:
        return {"fail": 0, "once": 1, "retry": float("inf")}[self.on_ambiguous]
