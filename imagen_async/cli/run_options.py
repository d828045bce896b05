"""Options of ``imagen-async run`` alone: limits, and what is shown.

The command line's parser reads the annotations at run time.
"""

import math
from typing import Annotated, Any, Literal

import attrs
from cyclopts import Group, Parameter

from imagen_async.cli.options import Whole
from imagen_async.exceptions import ConfigurationError

__all__ = ["NO_DISPLAY_OPTIONS", "NO_LIMITS", "DisplayOptions", "Limits"]

_LIMITS = Group.create_ordered("Pace and limits")
_DISPLAY = Group.create_ordered("What is shown")


@Parameter(name="*", group=_LIMITS)
@attrs.frozen(kw_only=True)
class Limits:
    """How fast and how much may be sent.

    Attributes:
        concurrency: Most requests in flight, by default 32; it begins with fewer and finds what the gateway takes.
        rpm: Most requests a minute, evenly spaced.
        images_per_minute: Most images asked for in a minute, evenly spaced.
        on_ambiguous: What to do when a request was sent and its response was lost, which may have been billed, in this
            run or an interrupted one: send it again once (the default), retry, or fail.
        top_up: How often to ask again for images that the safety filter removed.
        max_images: Most images that this folder may ever buy.
        budget: Most US dollars that this folder may ever cost, by list price.
        min_free: MiB of the disk to keep free, besides room for the images in flight, by default 16; below that the run
            stops. 0 turns the check off.
        disk_patience: Seconds that images are kept in memory while the disk does not accept them, by default 30;
            nothing more is sent meanwhile.
    """

    concurrency: Whole = 32
    rpm: float | None = None
    images_per_minute: float | None = None
    on_ambiguous: Literal["once", "retry", "fail"] = "once"
    top_up: Whole = 0
    max_images: Whole | None = None
    budget: Annotated[float | None, Parameter(metavar="USD")] = None
    min_free: Annotated[Whole, Parameter(metavar="MIB")] = 16
    disk_patience: Annotated[float, Parameter(metavar="S")] = 30.0

    def check(self) -> None:
        """Check that every value is a limit.

        Raises:
            ConfigurationError: A value is negative or not a number, so that nothing would ever exceed it.
        """
        limits = {"--max-images": self.max_images, "--budget": self.budget, "--top-up": self.top_up}
        limits |= {"--min-free": self.min_free, "--disk-patience": self.disk_patience}
        rates = {"--rpm": self.rpm, "--images-per-minute": self.images_per_minute}
        for option, limit in {**limits, **rates}.items():
            if limit is not None and not (math.isfinite(limit) and limit >= 0):
                raise ConfigurationError(f"{option} must be a number from 0, not {limit}")
        if named := [option for option, rate in rates.items() if rate == 0]:
            raise ConfigurationError(f"{named[0]} must be above 0; leave it out for no limit")

    def client_options(self) -> dict[str, Any]:
        """Return the arguments of `ImagenClient` that follow from the limits."""
        from imagen_async.limiter.backoff import RetryPolicy
        from imagen_async.receiver.spill import OverflowPolicy

        return {
            "max_concurrency": self.concurrency,
            "rpm": self.rpm,
            "images_per_minute": self.images_per_minute,
            "retry": RetryPolicy(on_ambiguous=self.on_ambiguous, top_up=self.top_up),
            "overflow": OverflowPolicy(patience=self.disk_patience),
        }


@Parameter(name="*", group=_DISPLAY)
@attrs.frozen(kw_only=True)
class DisplayOptions:
    """What is shown during a run and after it.

    Attributes:
        json: End stdout with one line, a JSON object of the figures.
        progress: auto (live on a terminal, else a plain line at intervals), live, plain or off.
        progress_every: Seconds between plain lines, by default 5.
    """

    json: bool = False
    progress: Literal["auto", "live", "plain", "off"] = "auto"
    progress_every: float = 5.0

    def check(self) -> None:
        """Check the interval.

        Raises:
            ConfigurationError: The interval is not above 0.
        """
        if not self.progress_every > 0:
            raise ConfigurationError("--progress-every must be above 0 seconds")


NO_LIMITS = Limits()
NO_DISPLAY_OPTIONS = DisplayOptions()
