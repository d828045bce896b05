"""``imagen-async generate``: one prompt, one request, its images as files or on the standard output.

The command line's parser reads the annotations at run time.
"""

import asyncio
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from imagen_async.cli.exit_codes import Exit, after_signal
from imagen_async.cli.options import (
    NO_FIELDS,
    NO_GATEWAY,
    NO_SANDBOX,
    GatewayOptions,
    RequestOptions,
    SandboxRun,
    read_catalog,
    refuse_option,
)
from imagen_async.cli.outputs import Place, place_for, write_image
from imagen_async.cli.signals import Interruption, listening
from imagen_async.cli.speech import give, say
from imagen_async.exceptions import ConfigurationError, printable
from imagen_async.request import ImageRequest

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from imagen_async.catalog import Catalog
    from imagen_async.outcome import Image, Outcome

__all__ = ["generate"]

_STDOUT = "-"
_SHOW_CURSOR = "\x1b[?25h"
"""The spinner hides it, and has no time to bring it back."""


def generate(
    prompt: str,
    /,
    *,
    output: Annotated[
        str | None, Parameter(name=("--output", "-o"), allow_leading_hyphen=True, validator=refuse_option)
    ] = None,
    fields: RequestOptions = NO_FIELDS,
    gateway: GatewayOptions = NO_GATEWAY,
    sandbox: SandboxRun = NO_SANDBOX,
) -> int:
    """Make the images of one prompt; print where they are.

    Args:
        prompt: The description of the image, in quotes; after -- if it begins with a hyphen.
        output: A file, a folder, or - to write one image's bytes to the standard output. By default a file in the
            current folder, named after the prompt. Nothing is overwritten.
        fields: Request fields.
        gateway: Which gateway.
        sandbox: The embedded gateway.
    """
    sandbox.refuse_without_sandbox()
    catalog = read_catalog(gateway.catalog)
    request = ImageRequest(prompt, **fields.given())
    if output == _STDOUT:
        _refuse_stdout(request)
        request.validate(catalog)
        return asyncio.run(_generate(request, None, catalog, gateway, sandbox))
    # Before a folder is made for it.
    request.validate(catalog)
    place = place_for(output, prompt, n=request.n)
    if place.format in {"png", "jpeg"} and fields.output_format is None:
        request = ImageRequest(prompt, **{**fields.given(), "output_format": place.format})
    return asyncio.run(_generate(request, place, catalog, gateway, sandbox))


def _refuse_stdout(request: ImageRequest) -> None:
    if request.n != 1:
        raise ConfigurationError("-o - takes one image: leave -n out, or name a folder")
    if sys.stdout.isatty():
        raise ConfigurationError(
            "-o - writes an image's bytes, which no terminal can show: send them to a file or pipe"
        )


async def _generate(
    request: ImageRequest, place: Place | None, catalog: "Catalog", gateway: GatewayOptions, sandbox: SandboxRun
) -> int:
    from imagen_async.cli.connect import connected

    outcome: Outcome | None = None
    interruption = _interruption()
    with listening(interruption.arrived):
        try:
            async with connected(gateway, sandbox, catalog=catalog) as client:
                with _spinner():
                    outcome = await client.generate(request)
                if place is not None:
                    # Here, where a signal waits until they are written: they are paid for.
                    _deliver(outcome, place)
        except asyncio.CancelledError:
            if interruption.number is None:
                raise
            if outcome is None:
                say("imagen-async: interrupted; if the request had been sent, it may have been billed")
                return after_signal(interruption.number)
    if place is None:
        # A signal is to end this one: perhaps nobody reads the pipe.
        _deliver(outcome, None)
    return Exit.SUCCEEDED if outcome.ok else Exit.INCOMPLETE


def _interruption() -> Interruption:
    """Cancel the current task at the first signal and the second, and leave at the third."""
    task = asyncio.current_task()

    def cancel(_: int) -> None:
        if task is not None:
            task.cancel()

    def leave(number: int) -> None:
        if sys.stderr.isatty():
            say(_SHOW_CURSOR)
        os._exit(after_signal(interruption.number or number))

    interruption = Interruption(drain=cancel, cancel=cancel, leave=leave)
    return interruption


def _spinner() -> "AbstractContextManager[object]":
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status("generating; this takes seconds to minutes")


def _tell(outcome: "Outcome") -> None:
    for note in outcome.notes:
        say(f"note: {printable(note)}")
    if not outcome.ok:
        why = f"the rest did not arrive: {printable(str(outcome.error))}" if outcome.error else _filtered(outcome)
        say(f"{len(outcome.images)} of {outcome.request.n} images: {why}")


def _filtered(outcome: "Outcome") -> str:
    reasons = "; ".join(outcome.reasons)
    return "the safety filter took the rest" + (f": {printable(reasons)}" if reasons else "")


def _deliver(outcome: "Outcome", place: Place | None) -> None:
    _tell(outcome)
    for image in outcome.images:
        _give(image, place, outcome.request)


def _give(image: "Image", place: Place | None, request: ImageRequest) -> None:
    data = image.data or b""
    for note in image.notes:
        say(f"note: {printable(note)}")
    if place is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
        return
    wanted = place.path(image.index, n=request.n, format=image.format)
    path = write_image(wanted, data)
    _tell_of_name(path, place, image)
    give(_shown(path))


def _tell_of_name(path: Path, place: Place, image: "Image") -> None:
    if place.ending is not None and path.suffix != place.ending:
        say(f"note: the bytes are {image.format.upper()}, so the name ends in {path.suffix}, not {place.ending}")


def _shown(path: Path) -> str:
    # A path is for scripts to use, but an escape sequence in it is for nobody.
    text = str(path)
    return text if text.isprintable() else printable(text, 4096)
