"""What the attacks share."""

from __future__ import annotations

import gc
import logging
from typing import TYPE_CHECKING

import pytest

from tests import fallback

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def _few_objects() -> Iterator[None]:
    """Leave out of every collection what was there before: each attack ends with one."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def _no_errors_in_the_log(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Check that no error was logged, by asyncio and aiohttp either."""
    yield
    assert [record.getMessage() for record in caplog.get_records("call") if record.levelno >= logging.ERROR] == []


@pytest.fixture(autouse=True, params=fallback.BOTH)
def _both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test with aiohttp's internals, and without."""
    if request.param == "fallback":
        fallback.force(monkeypatch)
