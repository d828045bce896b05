"""Runs the command line as its own process: real signals, real streams, waits for output only."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["child", "ran", "ran_into", "ran_raw", "ran_unread", "read_until"]


def _environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("IMAGEN_")}
    return {**kept, "PYTHONUNBUFFERED": "1", "COLUMNS": "80"}


def _command(arguments: tuple[object, ...]) -> list[str]:
    return [sys.executable, "-m", "imagen_async", *map(str, arguments)]


def ran(*arguments: object, folder: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(  # noqa: S603 - our own program
        _command(arguments),
        cwd=folder,
        env=_environment(),
        input=stdin,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )


def ran_raw(*arguments: object, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command to its end and leave its output as bytes."""
    return subprocess.run(  # noqa: S603 - our own program
        _command(arguments), cwd=folder, env=_environment(), capture_output=True, check=False
    )


def ran_unread(*arguments: object, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose stdout is closed."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "wb") as unread:
        return ran_into(unread, *arguments, folder=folder)


def ran_into(stdout: IO[bytes], *arguments: object, folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a command whose standard output goes there."""
    return subprocess.run(  # noqa: S603 - our own program
        _command(arguments), cwd=folder, env=_environment(), stdout=stdout, stderr=subprocess.PIPE, check=False
    )


@contextmanager
def child(*arguments: object, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a command, and kill it at the end of the block if it is still running."""
    process = subprocess.Popen(  # noqa: S603 - our own program
        _command(arguments),
        cwd=folder,
        env=_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read the child's stderr up to a line with this pattern; return all of it so far."""
    assert process.stderr is not None
    seen = ""
    for line in process.stderr:
        seen += line
        if re.search(pattern, line):
            return seen
    raise AssertionError(f"the process ended without printing {pattern!r}: {seen}")
