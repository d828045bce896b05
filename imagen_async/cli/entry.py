"""The script's entry point: checks that the extra is installed, and runs the command line.

Nothing heavy may be imported here, so that a missing extra is one clear line and not a traceback.
"""

from __future__ import annotations

import sys

from imagen_async.exceptions import MissingExtraError

__all__ = ["main"]

_EXTRA = frozenset({"cyclopts", "rich"})


def main() -> None:
    """Run the command line with the process's arguments, and exit with its status."""
    try:
        import rich  # noqa: F401 - cyclopts imports it later, where its absence would be a traceback

        from imagen_async.cli.app import launch
    except KeyboardInterrupt:
        sys.exit(130)  # before any handler is installed or any work is begun
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _EXTRA:
            raise
        sys.stderr.write(f"imagen-async: {MissingExtraError('the command line', 'cli')}\n")
        sys.exit(2)
    sys.exit(launch(sys.argv[1:]))
