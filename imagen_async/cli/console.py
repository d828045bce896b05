"""Writes to the two output streams: results to stdout, everything else to stderr.

The rule: control characters in text from outside are escaped first, no markup is interpreted, and a stderr that cannot
be written does not stop a paid run.
"""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from imagen_async.exceptions import ImagenError, InvalidInputError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["StdoutError", "error_text", "show_cursor", "silence_stdout", "write_json", "write_message", "write_result"]

_LONGEST = 4000
_KEY = re.compile(r"\bsk-[\w-]{16,}")


class StdoutError(Exception):
    """Stdout cannot be written."""


def write_message(text: str) -> None:
    """Write a line to stderr; never raises.

    Anything that looks like a key is masked: a key that was typed in the wrong place must not end up in a log.
    """
    with suppress(OSError, ValueError):  # a closed stream raises ValueError
        sys.stderr.write(_line(_KEY.sub("***", text), sys.stderr))
        sys.stderr.flush()


def write_result(text: str) -> None:
    """Write a line to stdout, and flush it.

    Raises:
        BrokenPipeError: The reader has closed the pipe.
        StdoutError: Stdout is a file on a full disk, or closed.
    """
    try:
        sys.stdout.write(_line(text, sys.stdout))
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # a closed stream raises ValueError
        raise StdoutError(str(error)) from error


def write_json(record: Mapping[str, Any]) -> None:
    """Write an object to stdout as a line of JSON; raises as `write_result`."""
    write_result(json.dumps(record))


def _line(text: str, stream: TextIO) -> str:
    """Return a line that the stream can encode; other characters are escaped, so that no paid run ends over a dash."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return f"{text}\n".encode(encoding, "backslashreplace").decode(encoding)


def show_cursor() -> None:
    """Show the terminal's cursor again, which a live display hides."""
    write_message("\x1b[?25h")


def silence_stdout() -> None:
    """Discard the rest of stdout after its reader has gone; the interpreter's flush at exit would raise otherwise."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def error_text(error: ImagenError) -> str:
    r"""Return an error's message, escaped for a terminal; bad input gets a line for each bad row.

    Example:
        >>> error_text(ImagenError("bad\x1b[31m news"))
        'bad\\x1b[31m news'
    """
    if isinstance(error, InvalidInputError):
        return "\n".join(_bad_input(error))
    return printable(str(error), _LONGEST)


def _bad_input(error: InvalidInputError) -> list[str]:
    # Composed here, not taken from str(error): a line break inside a problem must not look like another row.
    noun = "row is" if error.total == 1 else "rows are"
    lines = [f"{printable(error.source)}: {error.total} {noun} invalid, nothing was sent for them"]
    lines += [f"  line {line}: {printable('; '.join(mistakes), _LONGEST)}" for line, mistakes in error.problems]
    left = error.total - len(error.problems)
    return [*lines, f"  … and {left} more"] if left > 0 else lines
