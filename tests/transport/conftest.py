"""Runs the tests of this room both ways."""

from __future__ import annotations

import pytest

from tests import fallback


@pytest.fixture(autouse=True, params=fallback.BOTH)
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with aiohttp's internals, and without."""
    if request.param == "fallback":
        fallback.force(monkeypatch)
