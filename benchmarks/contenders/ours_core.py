"""Ours with the core dependencies only, as a plain ``pip install imagen-async`` has it: without the extra `speed`."""

from __future__ import annotations

import sys

sys.modules["isal"] = None  # type: ignore[assignment] # the interpreter's own way to say that there is none

from benchmarks.contenders.ours import opened  # noqa: E402 - after the line that it is about

__all__ = ["opened"]
