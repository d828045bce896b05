"""``imagen-async generate``: one prompt, one request, its images as files or on stdout.

The command line's parser reads the annotations at run time.
"""

import asyncio
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from imagen_async.cli.console import show_cursor, write_message, write_result
from imagen_async.cli.exit_codes import Exit, after_signal
from imagen_async.cli.options import NO_FIELDS, NO_GATEWAY, GatewayOptions, RequestOptions, read_catalog, refuse_option
from imagen_async.cli.outputs import Place, place_for, write_image
from imagen_async.cli.sandbox_options import with_sandbox_options
from imagen_async.cli.signals import Interruption, listening
from imagen_async.exceptions import ConfigurationError, printable
from imagen_async.request import ImageRequest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from imagen_async.catalog import Catalog
    from imagen_async.outcome import Image, Outcome

__all__ = ["generate"]

_STDOUT = "-"


@with_sandbox_options(embedded=True)
def generate(
    prompt: str,
    /,
    *,
    output: Annotated[
        str | None, Parameter(name=("--output", "-o"), allow_leading_hyphen=True, validator=refuse_option)
    ] = None,
    fields: RequestOptions = NO_FIELDS,
    gateway: GatewayOptions = NO_GATEWAY,
    behaviour: dict[str, Any] | None,
) -> int:
    """Make the images of one prompt; print where they are.

    Args:
        prompt: The description of the image, in quotes; after -- if it begins with a hyphen.
        output: A file, a folder, or - to write one image's bytes to stdout. By default a file in the current folder,
            named after the prompt. Nothing is overwritten.
        fields: Request fields.
        gateway: The gateway's options.
        behaviour: Keywords of the embedded sandbox, or None.
    """
    catalog = read_catalog(gateway.catalog)
    request = ImageRequest(prompt, **fields.given())
    if output == _STDOUT:
        _refuse_stdout(request)
        request.validate(catalog)
        return asyncio.run(_generate(request, None, catalog, gateway, behaviour))
    # Before a folder is made for it.
    request.validate(catalog)
    place = place_for(output, prompt, n=request.n)
    if place.format in {"png", "jpeg"} and fields.output_format is None:
        request = ImageRequest(prompt, **{**fields.given(), "output_format": place.format})
    return asyncio.run(_generate(request, place, catalog, gateway, behaviour))


def _refuse_stdout(request: ImageRequest) -> None:
    if request.n != 1:
        raise ConfigurationError("-o - takes one image: leave -n out, or name a folder")
    if sys.stdout.isatty():
        raise ConfigurationError(
            "-o - writes an image's bytes, which a terminal cannot show: redirect them to a file or pipe"
        )


async def _generate(
    request: ImageRequest,
    place: Place | None,
    catalog: "Catalog",
    gateway: GatewayOptions,
    behaviour: dict[str, Any] | None,
) -> int:
    from imagen_async.cli.connect import connected

    outcome: Outcome | None = None
    interruption = _interruption()
    with listening(interruption.arrived):
        try:
            async with connected(gateway, behaviour, catalog=catalog) as client:
                with _spinner():
                    outcome = await client.generate(request)
                if place is not None:
                    # Signals are handled after the images are written: they are paid for.
                    _deliver(outcome, place)
        except asyncio.CancelledError:
            if interruption.number is None:
                raise
            if outcome is None:
                write_message("imagen-async: interrupted; if the request had been sent, it may have been billed")
                return after_signal(interruption.number)
    if place is None:
        # Outside the handlers, so that a signal ends a write to a pipe that is not read.
        _deliver(outcome, None)
    return Exit.SUCCEEDED if outcome.ok else Exit.INCOMPLETE


def _interruption() -> Interruption:
    """Cancel the current task at the first and second signal, and exit at the third."""
    task = asyncio.current_task()

    def cancel(_: int) -> None:
        if task is not None:
            task.cancel()

    def leave(number: int) -> None:
        if sys.stderr.isatty():
            show_cursor()  # the spinner has no time to do so
        os._exit(after_signal(interruption.number or number))

    interruption = Interruption(drain=cancel, cancel=cancel, leave=leave)
    return interruption


def _spinner() -> "AbstractContextManager[object]":
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("generating; this takes seconds to minutes")


def _deliver(outcome: "Outcome", place: Place | None) -> None:
    """Report what is missing, and write the images."""
    for note in outcome.notes:
        write_message(f"note: {printable(note)}")
    if not outcome.ok:
        why = f"the rest did not arrive: {printable(str(outcome.error))}" if outcome.error else _filtered(outcome)
        write_message(f"{len(outcome.images)} of {outcome.request.n} images: {why}")
    for image in outcome.images:
        for note in image.notes:
            write_message(f"note: {printable(note)}")
        if place is None:
            sys.stdout.buffer.write(image.data or b"")
            sys.stdout.buffer.flush()
        else:
            _write(image, place, n=outcome.request.n)


def _filtered(outcome: "Outcome") -> str:
    reasons = "; ".join(outcome.reasons)
    return "the safety filter removed the rest" + (f": {printable(reasons)}" if reasons else "")


def _write(image: "Image", place: Place, *, n: int) -> None:
    path = write_image(place.path(image.index, n=n, format=image.format), image.data or b"")
    if place.ending is not None and path.suffix != place.ending:
        kind = image.format.upper()
        write_message(f"note: the image is a {kind}, so its name ends in {path.suffix}, not {place.ending}")
    write_result(_shown(path))


def _shown(path: Path) -> str:
    # Scripts read the path as it is; only one with control characters is escaped.
    text = str(path)
    return text if text.isprintable() else printable(text, 4096)
