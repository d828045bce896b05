"""Defines the commands, and turns errors into messages and exit statuses, in one place.

A command's module is imported when the command is used; the first help needs none of them.
"""

from __future__ import annotations

import errno
import signal
import traceback
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, Parameter

from imagen_async._version import __version__
from imagen_async.cli import examples
from imagen_async.cli.console import StdoutError, error_text, silence_stdout, write_message
from imagen_async.cli.exit_codes import Exit, after_error, after_signal
from imagen_async.exceptions import ImagenError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["app", "launch"]

_COMMANDS = (
    ("generate", "Make the images of one prompt; print where they are.", examples.GENERATE),
    ("run", "Make images for a file of prompts; run again to resume.", examples.RUN),
    ("status", "Show the state of a folder's jobs, during a run or after it.", examples.STATUS),
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
        suppress_keyboard_interrupt=False,  # `launch` reports it
        # Options that switch something off are named so; help texts state the defaults.
        default_parameter=Parameter(negative=(), show_default=False),
    )
    for name, text, epilogue in _COMMANDS:
        built.command(f"imagen_async.cli.{name}:{name}", name=name, help=text, help_epilogue=epilogue)
    built.register_install_completion_command()
    return built


app = _built()
"""The command line as a cyclopts application."""


def launch(arguments: Sequence[str]) -> int:  # noqa: PLR0911 - each way to end has its own status
    """Run a command and return its exit status; raises only what ends the interpreter.

    Args:
        arguments: The command line, without the program's name.
    """
    try:
        status = app(list(arguments), exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as error:
        write_message(f"imagen-async: {printable(str(error).strip(), 1000)} (see {_help_of(arguments)})")
        return Exit.USAGE
    except ImagenError as error:
        write_message(f"imagen-async: {error_text(error)}")
        return after_error(error)
    except KeyboardInterrupt:
        write_message("imagen-async: interrupted")
        return after_signal(signal.SIGINT)
    except BrokenPipeError:
        silence_stdout()
        return Exit.BROKEN_PIPE
    except Exception as error:  # noqa: BLE001 - any other error is a defect of ours, and is shown whole
        if _is_of_stdout(error):
            silence_stdout()
            reason = printable(str(error))
            write_message(f"imagen-async: stdout cannot be written: {reason}; everything done so far is kept")
            return Exit.NO_OUTPUT
        _show_defect()
        return Exit.DEFECT
    return status if isinstance(status, int) else Exit.SUCCEEDED


def _is_of_stdout(error: Exception) -> bool:
    # cyclopts writes help itself; our own files raise typed errors if they cannot be written.
    return isinstance(error, StdoutError) or (isinstance(error, OSError) and error.errno == errno.ENOSPC)


def _help_of(arguments: Sequence[str]) -> str:
    known = {name for name, _, _ in _COMMANDS}
    command = next((argument for argument in arguments if argument in known), None)
    return "imagen-async --help" if command is None else f"imagen-async {command} --help"


def _show_defect() -> None:
    for line in traceback.format_exc().splitlines():
        write_message(printable(line, 2000))
    write_message(
        "imagen-async: this is a defect of imagen-async; everything reported done is kept, run again to resume"
    )
