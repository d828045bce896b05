"""Runs tests on aiohttp's documented interface alone, as if its internals had changed.

`IMAGEN_TEST_FALLBACK=1 pytest tests/client tests/receiver tests/transport tests/hostile` forces it for all tests; the
tests of the wire run both ways in any case.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from imagen_async.transport import aiohttp_internals

if TYPE_CHECKING:
    import pytest

__all__ = ["BOTH", "FORCED", "force", "in_use"]

FORCED = bool(os.environ.get("IMAGEN_TEST_FALLBACK"))
BOTH = ["fallback"] if FORCED else ["internals", "fallback"]
"""Parameters of a fixture that runs each test both ways."""

_usable = aiohttp_internals.usable


def force(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every session that a test opens use the documented interface only."""
    monkeypatch.setattr(aiohttp_internals, "usable", lambda: False)


def in_use() -> bool:
    """Whether `force` is in effect."""
    return aiohttp_internals.usable is not _usable
