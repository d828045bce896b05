"""Words on the two streams: results on stdout, everything else on stderr.

The rule: text from outside is made harmless first, and a stderr that nobody reads any more stops no paid run. Only
plain text goes out here; no markup is ever interpreted.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress

from imagen_async.exceptions import ImagenError, InvalidInputError, printable

__all__ = ["StdoutError", "give", "say", "silence_stdout", "words"]

_LONGEST = 4000


class StdoutError(Exception):
    """The standard output cannot be written."""


def say(text: str) -> None:
    """Print a line for people, on stderr; never fails."""
    with suppress(OSError, ValueError):  # a ValueError is a closed stream's
        sys.stderr.write(f"{text}\n")
        sys.stderr.flush()


def give(text: str) -> None:
    """Print a result, on stdout, at once.

    Raises:
        BrokenPipeError: Nobody reads it any more.
        StdoutError: It is a file on a full disk, or closed.
    """
    try:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except (OSError, ValueError) as error:  # a ValueError is a closed stream's
        raise StdoutError(str(error)) from error


def silence_stdout() -> None:
    """Send what is still to be flushed nowhere: its reader is gone, and the interpreter would complain at exit."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def words(error: ImagenError) -> str:
    r"""Return an error's own words, harmless on a terminal; bad input has a line for each bad row.

    Example:
        >>> words(ImagenError("bad\x1b[31m news"))
        'bad\\x1b[31m news'
    """
    if isinstance(error, InvalidInputError):
        return "\n".join(_bad_input(error))
    return printable(str(error), _LONGEST)


def _bad_input(error: InvalidInputError) -> list[str]:
    # Put together anew: a line break inside a mistake must not look like another row.
    noun = "row is" if error.total == 1 else "rows are"
    lines = [f"{printable(error.source)}: {error.total} {noun} not valid, nothing was sent for them"]
    lines += [f"  line {line}: {printable('; '.join(mistakes), _LONGEST)}" for line, mistakes in error.problems]
    left = error.total - len(error.problems)
    return [*lines, f"  … and {left} more"] if left > 0 else lines
