"""Fixtures of all tests: the sandbox, a fake clock, and hypothesis' profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import fallback
from tests.clock import FakeClock, LoopClock
from tests.profiles import use_profile

if TYPE_CHECKING:
    from collections.abc import Generator

pytest_plugins = ["imagen_async.sandbox.pytest_plugin"]

use_profile()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Let what was printed and logged be sent between processes, which lone surrogates cannot be."""
    report = yield
    report.sections = [(name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections]
    return report


@pytest.fixture
def clock() -> FakeClock:
    """Give a clock that a sleep moves at once."""
    return FakeClock()


@pytest.fixture
async def loop_clock() -> LoopClock:
    """Give a hold on the running loop's own clock."""
    return LoopClock()


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the developer's own key, gateway and proxies out of the tests."""
    for name in ("IMAGEN_API_KEY", "IMAGEN_BASE_URL", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture(autouse=True)
def _fallback_if_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run on aiohttp's documented interface alone if `IMAGEN_TEST_FALLBACK` is set."""
    if fallback.FORCED:
        fallback.force(monkeypatch)
