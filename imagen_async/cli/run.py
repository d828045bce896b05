"""``imagen-async run``: a file of prompts in, a folder of images out.

Takes a batch from its options to its exit status; progress and signals are handled in `session`, the final text in
`summary`. The command line's parser reads the annotations at run time.
"""

import asyncio
import functools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import attrs
from cyclopts import Parameter

from imagen_async.cli.console import error_text, write_json, write_message, write_result
from imagen_async.cli.exit_codes import Exit, after_error, after_signal
from imagen_async.cli.options import NO_FIELDS, NO_GATEWAY, GatewayOptions, RequestOptions, read_catalog, refuse_option
from imagen_async.cli.run_options import NO_DISPLAY_OPTIONS, NO_LIMITS, DisplayOptions, Limits
from imagen_async.cli.sandbox_options import with_sandbox_options
from imagen_async.cli.session import Session
from imagen_async.cli.summary import Ending, Reasons, plan_text, run_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from imagen_async.batch import Batch, Source
    from imagen_async.catalog import Catalog
    from imagen_async.client.client import ImagenClient

__all__ = ["run"]


@with_sandbox_options(embedded=True)
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
    limits: Limits = NO_LIMITS,
    fields: RequestOptions = NO_FIELDS,
    gateway: GatewayOptions = NO_GATEWAY,
    display: DisplayOptions = NO_DISPLAY_OPTIONS,
    behaviour: dict[str, Any] | None,
) -> int:
    """Make images for a file of prompts; run again to resume.

    Args:
        prompts: A .txt (a prompt a line), .jsonl, .csv, .tsv or .parquet file, or - for stdin.
        output: Folder for images, metadata.jsonl, errors.jsonl and the journal with which a run resumes.
        input_format: txt, jsonl, csv, tsv or parquet, instead of the format that the file's name implies.
        dry_run: Check every row and print jobs, images, cost and time; send nothing.
        retry_failed: Try again what failed, is in doubt or did not arrive in earlier runs.
        redo_damaged: First compare every image with the journal; make those anew whose files are missing or altered.
        skip_invalid: Skip rows that are not valid, and list them in invalid.jsonl.
        ordered: Handle results in the order of the input.
        no_fsync: Do not wait for the disk: faster, but a power cut may lose the last images.
        limits: How fast and how much may be sent.
        fields: Request fields for rows that do not set them.
        gateway: The gateway's options.
        display: What is shown.
        behaviour: Keywords of the embedded sandbox, or None.
    """
    from imagen_async.batch import Batch, open_source
    from imagen_async.cli.connect import connected
    from imagen_async.cli.descriptors import affordable_concurrency

    limits.check()
    display.check()
    catalog = read_catalog(gateway.catalog)
    source = open_source(prompts, defaults=fields.given(), catalog=catalog, format=input_format)
    if dry_run:
        return _rehearse(source, catalog, limits, skip_invalid=skip_invalid, as_json=display.json)
    concurrency = affordable_concurrency(limits.concurrency, sandbox=behaviour is not None)
    options = {**limits.client_options(), "max_concurrency": concurrency}
    make_batch = functools.partial(
        Batch,
        requests=source,
        output=output,
        ordered=ordered,
        retry_failed=retry_failed,
        redo_damaged=redo_damaged,
        fsync=not no_fsync,
        max_images=limits.max_images,
        budget=limits.budget,
        min_free=limits.min_free * 2**20,
        skip_invalid=skip_invalid,
        tell_skipped=False,
    )
    return asyncio.run(
        _carry_out(connected(gateway, behaviour, catalog=catalog, **options), make_batch, output, display)
    )


def _rehearse(source: "Source", catalog: "Catalog", limits: Limits, *, skip_invalid: bool, as_json: bool) -> int:
    from imagen_async.batch.plan import Plan

    report = source.check()
    if not skip_invalid:
        report.raise_for_bad_rows()
    planned = Plan.of(report, catalog=catalog, rpm=limits.rpm, images_per_minute=limits.images_per_minute)
    if as_json:
        write_json({"dry_run": True, **attrs.asdict(planned), "invalid": report.bad})
    else:
        write_result(plan_text(planned))
    return Exit.SUCCEEDED


async def _carry_out(
    connection: "AbstractAsyncContextManager[ImagenClient]",
    make_batch: "Callable[[ImagenClient], Batch]",
    output: Path,
    display: DisplayOptions,
) -> int:
    reasons = Reasons()
    async with connection as client:
        batch = make_batch(client)
        ending = await Session(batch, client, display, reasons).run()
    _conclude(batch, output, ending, reasons, as_json=display.json)
    return _status(batch, ending)


def _conclude(batch: "Batch", output: Path, ending: Ending, reasons: Reasons, *, as_json: bool) -> None:
    summary = batch.summary
    if ending.error is not None:
        write_message(f"imagen-async: {error_text(ending.error)}")
    text = run_text(summary, output=output, ending=ending, reasons=reasons)
    if as_json:
        write_message(text)
        write_json(summary.as_dict())
    else:
        write_result(text)


def _status(batch: "Batch", ending: Ending) -> int:
    if ending.number is not None:
        return after_signal(ending.number)
    if ending.error is not None:
        return after_error(ending.error, sent=batch.progress.attempts > 0)
    return Exit.SUCCEEDED if batch.summary.ok else Exit.INCOMPLETE
