"""One target under atheris, in a process of its own: ``python -m tests.fuzz.drive TARGET`` and libFuzzer's options.

The only module that needs atheris. What it instruments is ours, and the standard library's reader of dates.
"""

from __future__ import annotations

import importlib
import sys

_INSTRUMENTED = ["imagen_async", "email", "json"]


def main() -> None:
    """Fuzz until libFuzzer has had enough, or has found something; it ends the process itself."""
    import atheris

    name = sys.argv.pop(1)
    with atheris.instrument_imports(include=_INSTRUMENTED):
        target = importlib.import_module(f"tests.fuzz.targets.{name}")
    atheris.Setup(sys.argv, target.check)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
