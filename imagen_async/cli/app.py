"""The commands, wired together, and the one place where errors become messages and exit statuses.

A command's module is imported when the command is used; help and completion need none of the heavy ones.
"""

from __future__ import annotations

import errno
import signal
import traceback
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Parameter

from imagen_async._version import __version__
from imagen_async.cli import examples
from imagen_async.cli.exit_codes import Exit, after_error, after_signal
from imagen_async.cli.speech import StdoutError, say, silence_stdout, words
from imagen_async.exceptions import ImagenError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "launch"]

_COMMANDS = (
    ("generate", "Make the images of one prompt; print where they are.", examples.GENERATE),
    ("run", "Make images for a file of prompts; run again to go on.", examples.RUN),
    ("status", "Tell what has become of a folder's jobs, during a run or after it.", examples.STATUS),
    ("models", "Show the known models: limits, sizes and list prices.", examples.MODELS),
    ("sandbox", "Run a gateway on this machine that shows faults on demand.", examples.SANDBOX),
)


def _built() -> App:
    built = App(
        name="imagen-async",
        help="Text-to-image in bulk: prompts in, verified images out, nothing lost or bought twice.",
        version=__version__,
        help_format="plaintext",
        help_epilogue=examples.ALL,
        suppress_keyboard_interrupt=False,  # `launch` tells of it
        # Options that switch something off say so in their name; defaults are told in words.
        default_parameter=Parameter(negative=(), show_default=False),
    )
    for name, text, epilogue in _COMMANDS:
        built.command(f"imagen_async.cli.{name}:{name}", name=name, help=text, help_epilogue=epilogue)
    built.register_install_completion_command()
    return built


app = _built()
"""The command line, as cyclopts sees it."""


def launch(arguments: Sequence[str]) -> int:  # noqa: PLR0911 - each way to end has its own status
    """Run a command and return its exit status; raises nothing but what ends the interpreter.

    Args:
        arguments: The command line without the program's name.
    """
    try:
        status = app(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        say(f"imagen-async: {printable(str(error).strip(), 1000)} (see {_help_of(arguments)})")
        return Exit.USAGE
    except ImagenError as error:
        say(f"imagen-async: {words(error)}")
        return after_error(error)
    except KeyboardInterrupt:
        say("imagen-async: interrupted")
        return after_signal(signal.SIGINT)
    except BrokenPipeError:
        silence_stdout()
        return Exit.BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - whatever else it is, it is a defect of ours, and is shown whole
        if _is_of_stdout(error):
            silence_stdout()
            say(f"imagen-async: the standard output cannot be written: {printable(str(error))}; what was done is kept")
            return Exit.NO_OUTPUT
        _show_defect()
        return Exit.DEFECT
    return status if isinstance(status, int) else Exit.SUCCEEDED


def _is_of_stdout(error: Exception) -> bool:
    # Help is written by cyclopts; files of ours that cannot be written are typed errors.
    return isinstance(error, StdoutError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)


def _help_of(arguments: Sequence[str]) -> str:
    known = {name for name, _, _ in _COMMANDS}
    command = next((argument for argument in arguments if argument in known), None)
    return "imagen-async --help" if command is None else f"imagen-async {command} --help"


def _show_defect() -> None:
    for line in traceback.format_exc().splitlines():
        say(printable(line, 2000))
    say("imagen-async: this is a defect of imagen-async; what was reported done is kept, and a run can be resumed")
