"""``imagen-async run``: a file of prompts in, a folder of images out.

It carries a batch from its options to its exit status: progress, signals and the summary are arranged here and made
elsewhere. The command line's parser reads the annotations at run time.
"""

import asyncio
import json
import math
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import attrs
from cyclopts import Group, Parameter

from imagen_async.cli.display import Display, progress_display
from imagen_async.cli.exit_codes import Exit, after_error, after_signal
from imagen_async.cli.options import (
    NO_FIELDS,
    NO_GATEWAY,
    NO_SANDBOX,
    GatewayOptions,
    RequestOptions,
    SandboxRun,
    Whole,
    read_catalog,
    refuse_option,
)
from imagen_async.cli.signals import Interruption, listening
from imagen_async.cli.speech import give, say, words
from imagen_async.cli.summary import Ending, Reasons, plan_text, run_text
from imagen_async.exceptions import ConfigurationError, ImagenError

if TYPE_CHECKING:
    from imagen_async.batch import Batch, Source
    from imagen_async.catalog import Catalog
    from imagen_async.client.client import ImagenClient
    from imagen_async.outcome import Outcome

__all__ = ["NO_PACE", "NO_SHOW", "Pace", "Show", "run"]

_PACE = Group.create_ordered("Pace and limits")
_SHOW = Group.create_ordered("What is shown")


@Parameter(name="*", group=_PACE)
@attrs.frozen(kw_only=True)
class Pace:
    """How fast, and how far.

    Attributes:
        concurrency: Most requests in flight, by default 32; it begins with fewer and finds what the gateway takes.
        rpm: Most requests a minute, evenly spaced.
        images_per_minute: Most images asked for in a minute, likewise.
        on_ambiguous: What to do when a request was sent and its answer was lost, which may have been billed: try again
            once (the default), retry, or fail.
        top_up: How often to ask again for images that the safety filter took.
        max_images: Most images that this folder may ever buy.
        budget: Most US dollars that this folder may ever cost, by list price.
        min_free: MiB of the disk that stay free, besides room for the images under way, by default 16; before there are
            fewer, the run stops. 0 for no such watch.
        disk_patience: Seconds that images which the disk does not take are kept in memory while it is asked again, by
            default 30; nothing more is sent meanwhile.
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

    def refuse_nonsense(self) -> None:
        """Do nothing if the values are limits.

        Raises:
            ConfigurationError: One is negative or no number; nothing would ever exceed it.
        """
        limits = {"--max-images": self.max_images, "--budget": self.budget, "--top-up": self.top_up}
        limits |= {"--min-free": self.min_free, "--disk-patience": self.disk_patience}
        rates = {"--rpm": self.rpm, "--images-per-minute": self.images_per_minute}
        for option, limit in {**limits, **rates}.items():
            if limit is not None and not (math.isfinite(limit) and limit >= 0):
                raise ConfigurationError(f"{option} must be a number from 0, not {limit}")
        if named := [option for option, rate in rates.items() if rate == 0]:
            raise ConfigurationError(f"{named[0]} must be above 0")

    def client_options(self) -> dict[str, Any]:
        """Return what an `ImagenClient` is to be told of it."""
        from imagen_async.limiter.backoff import RetryPolicy
        from imagen_async.receiver.spill import OverflowPolicy

        return {
            "max_concurrency": self.concurrency,
            "rpm": self.rpm,
            "images_per_minute": self.images_per_minute,
            "retry": RetryPolicy(on_ambiguous=self.on_ambiguous, top_up=self.top_up),
            "overflow": OverflowPolicy(patience=self.disk_patience),
        }


@Parameter(name="*", group=_SHOW)
@attrs.frozen(kw_only=True)
class Show:
    """What is shown.

    Attributes:
        json: End the standard output with one line, a JSON object of the figures.
        progress: auto (live on a terminal, else a line now and then), live, plain or off.
        progress_every: Seconds between plain lines, by default 5.
    """

    json: bool = False
    progress: Literal["auto", "live", "plain", "off"] = "auto"
    progress_every: float = 5.0


NO_PACE = Pace()
NO_SHOW = Show()


def run(
    prompts: Annotated[str, Parameter(allow_leading_hyphen=True, validator=refuse_option)],
    /,
    *,
    output: Annotated[Path, Parameter(name=("--output", "-o"), validator=refuse_option)],
    input_format: Annotated[str | None, Parameter(name=("--input-format", "--format"))] = None,
    dry_run: bool = False,
    retry_failed: bool = False,
    redo_damaged: bool = False,
    skip_invalid: bool = False,
    ordered: bool = False,
    no_fsync: bool = False,
    pace: Pace = NO_PACE,
    fields: RequestOptions = NO_FIELDS,
    gateway: GatewayOptions = NO_GATEWAY,
    sandbox: SandboxRun = NO_SANDBOX,
    show: Show = NO_SHOW,
) -> int:
    """Make images for a file of prompts; run again to go on.

    Args:
        prompts: A .txt (a prompt a line), .jsonl, .csv, .tsv or .parquet file, or - for the standard input.
        output: Folder for images, metadata.jsonl, errors.jsonl and the journal that lets a run go on.
        input_format: txt, jsonl, csv, tsv or parquet, instead of what the file's name says.
        dry_run: Check every row and tell jobs, images, cost and time; send nothing.
        retry_failed: Try again what failed, is in doubt or did not arrive in earlier runs.
        redo_damaged: Compare every image with the journal first; make anew whose files are missing or altered.
        skip_invalid: Skip rows that are not valid, and list them in invalid.jsonl.
        ordered: Take results in the order of the input.
        no_fsync: Do not wait for the disk: faster, but a power cut may lose the last images.
        pace: How fast, and how far.
        fields: Request fields for rows that do not set them.
        gateway: Which gateway.
        sandbox: The embedded gateway.
        show: What is shown.
    """
    from imagen_async.batch import open_source

    sandbox.refuse_without_sandbox()
    pace.refuse_nonsense()
    if not show.progress_every > 0:
        raise ConfigurationError("--progress-every must be above 0 seconds")
    catalog = read_catalog(gateway.catalog)
    source = open_source(prompts, defaults=fields.given(), catalog=catalog, format=input_format)
    if dry_run:
        return _rehearse(source, catalog, pace, skip_invalid=skip_invalid, as_json=show.json)
    order = _Order(
        output=output,
        retry_failed=retry_failed,
        redo_damaged=redo_damaged,
        skip_invalid=skip_invalid,
        ordered=ordered,
        no_fsync=no_fsync,
        pace=pace,
        gateway=gateway,
        sandbox=sandbox,
        show=show,
    )
    return asyncio.run(_carry_out(source, catalog, order))


@attrs.frozen(kw_only=True)
class _Order:
    output: Path
    retry_failed: bool
    redo_damaged: bool
    skip_invalid: bool
    ordered: bool
    no_fsync: bool
    pace: Pace
    gateway: GatewayOptions
    sandbox: SandboxRun
    show: Show


def _rehearse(source: "Source", catalog: "Catalog", pace: Pace, *, skip_invalid: bool, as_json: bool) -> int:
    from imagen_async.batch.plan import Plan

    report = source.check()
    if not skip_invalid:
        report.raise_for_bad_rows()
    planned = Plan.of(report, catalog=catalog, rpm=pace.rpm, images_per_minute=pace.images_per_minute)
    if as_json:
        give(json.dumps({"dry_run": True, **attrs.asdict(planned), "invalid": report.bad}))
    else:
        give(plan_text(planned))
    return Exit.SUCCEEDED


async def _carry_out(source: "Source", catalog: "Catalog", order: _Order) -> int:
    from imagen_async.batch import Batch
    from imagen_async.cli.connect import connected
    from imagen_async.cli.descriptors import affordable

    pace = attrs.evolve(order.pace, concurrency=affordable(order.pace.concurrency, sandbox=order.sandbox.sandbox))
    async with connected(order.gateway, order.sandbox, catalog=catalog, **pace.client_options()) as client:
        batch = Batch(
            client,
            source,
            output=order.output,
            ordered=order.ordered,
            retry_failed=order.retry_failed,
            redo_damaged=order.redo_damaged,
            fsync=not order.no_fsync,
            max_images=pace.max_images,
            budget=pace.budget,
            min_free=pace.min_free * 2**20,
            skip_invalid=order.skip_invalid,
            tell_skipped=False,
        )
        reasons = Reasons()
        ending = await _Session(batch, client, order.show, reasons).run()
    _conclude(batch, order, ending, reasons)
    return _status(batch, ending)


class _Session:
    """One run of a batch, with a display and an ear for signals."""

    def __init__(self, batch: "Batch", client: "ImagenClient", show: Show, reasons: Reasons) -> None:
        self._batch = batch
        self._reasons = reasons
        self._display: Display = progress_display(
            show.progress, batch.progress, lambda: client.pace, every=show.progress_every, clock=time.monotonic
        )
        self._interruption = Interruption(drain=self._drain, cancel=self._cancel, leave=self._leave)
        self._task: asyncio.Task[object] | None = None
        self._begun = False

    async def run(self) -> Ending:
        self._task = asyncio.current_task()
        interruption = self._interruption
        error: ImagenError | None = None
        with listening(interruption.arrived):
            try:
                await self._take_outcomes()
            except asyncio.CancelledError:
                if interruption.number is None or self._task is None:
                    raise
                while self._task.uncancel():
                    pass  # each of them was a signal's
            except ImagenError as stopped:
                if not self._begun:
                    raise
                error = stopped
        return Ending(error=error, number=interruption.number, total=self._batch.progress.total)

    async def _take_outcomes(self) -> None:
        async with self._batch:
            self._begun = True
            async with self._display:
                async for outcome in self._batch:
                    self._note(outcome)

    def _note(self, outcome: "Outcome") -> None:
        if outcome.error is not None:
            self._display.trouble(self._reasons.note(outcome.error))

    def _drain(self, number: int) -> None:
        if not self._begun:
            self._stop(f"{_name(number)}: cancelling; nothing has been sent")
            return
        self._batch.drain()
        flying = self._batch.progress.in_flight
        self._display.note(
            f"{_name(number)}: finishing what is in flight ({flying} now) and beginning nothing more; once more cancels"
        )

    def _cancel(self, number: int) -> None:
        self._stop(f"{_name(number)}: cancelling; once more leaves at once")

    def _stop(self, note: str) -> None:
        self._display.note(note)
        if self._task is not None:
            self._task.cancel()

    def _leave(self, number: int) -> None:
        self._display.abandon()
        os._exit(after_signal(self._interruption.number or number))


def _name(number: int) -> str:
    return signal.Signals(number).name


def _conclude(batch: "Batch", order: _Order, ending: Ending, reasons: Reasons) -> None:
    summary = batch.summary
    if ending.error is not None:
        say(f"imagen-async: {words(ending.error)}")
    text = run_text(summary, output=order.output, ending=ending, reasons=reasons)
    if order.show.json:
        say(text)
        give(json.dumps(summary.as_dict()))
    else:
        give(text)


def _status(batch: "Batch", ending: Ending) -> int:
    if ending.number is not None:
        return after_signal(ending.number)
    if ending.error is not None:
        return after_error(ending.error, sent=batch.progress.attempts > 0)
    return Exit.SUCCEEDED if batch.summary.ok else Exit.INCOMPLETE
