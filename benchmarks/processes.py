"""The processes of a benchmark: each started from the root of the checkout, in a quiet environment, bounded, and ended.

A contender is run to its end and says one line of JSON; a server says one when it listens and ends when its standard
input does. Every process started here is ended here, by its own handle.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["HOME", "OWN_ENVIRONMENTS", "RunFailedError", "Served", "python_of", "quiet_environment", "run", "served"]

HOME = Path(__file__).resolve().parent.parent
OWN_ENVIRONMENTS = {"litellm": HOME / ".venv-litellm"}
"""Where contenders are that cannot be installed beside the others."""
_FOREIGN = ("OPENAI_", "GOOGLE_", "GEMINI_", "IMAGEN_", "AIOHTTP_")


class RunFailedError(Exception):
    """A run gave no figure to trust; the message says why, in one line."""


class Served:
    """A server that listens.

    Args:
        process: As it was started.

    Attributes:
        url: Where it listens, without a path.
    """

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise RunFailedError("the server did not start")
        self.url = str(json.loads(line)["url"])

    def last_words(self, *, within: float = 10.0) -> dict[str, Any]:
        """Let the server end, and return the object that it says then.

        Raises:
            RunFailedError: It says nothing, or does not end within so many seconds.
        """
        try:
            said, _ = self._process.communicate(timeout=within)
        except subprocess.TimeoutExpired:
            raise RunFailedError(f"the server did not end within {within:g} s") from None
        return _last_line(said, "the server")


@contextlib.contextmanager
def served(module: str, *words: str) -> Iterator[Served]:
    """Start a server, and end it in any case."""
    with subprocess.Popen(
        [sys.executable, "-m", module, *words],
        cwd=HOME,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield Served(process)
        finally:
            process.kill()


def run(
    module: str, *words: str, limit: float, settings: Mapping[str, str] | None = None, python: str = sys.executable
) -> dict[str, Any]:
    """Run a module to its end, `limit` seconds at most, and return the object that it says last.

    Args:
        module: Its name.
        words: What follows it.
        limit: Seconds.
        settings: Added to a quiet environment.
        python: The interpreter; by default this one.

    Raises:
        RunFailedError: It did not end in time, or well, or says nothing.
    """
    try:
        done = subprocess.run(
            [python, "-m", module, *words],
            cwd=HOME,
            env=quiet_environment() | dict(settings or {}),
            capture_output=True,
            text=True,
            timeout=limit,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise RunFailedError(f"stopped after {limit:g} s") from None
    if done.returncode:
        last = (done.stderr.strip() or "no word").splitlines()[-1]
        raise RunFailedError(f"ended with status {done.returncode}: {textwrap.shorten(last, 160)}")
    return _last_line(done.stdout, "the contender")


def python_of(name: str) -> str:
    """Return the interpreter that has a package: of its own environment if that exists, else this one."""
    own = OWN_ENVIRONMENTS.get(name, HOME) / "bin" / "python"
    return str(own) if own.exists() else sys.executable


def _last_line(said: str, who: str) -> dict[str, Any]:
    if not said.strip():
        raise RunFailedError(f"{who} said nothing")
    last: dict[str, Any] = json.loads(said.splitlines()[-1])
    return last


def quiet_environment() -> dict[str, str]:
    """This environment without proxies and without settings that would steer a client away from its defaults."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(_FOREIGN)
    }
