from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.cli import descriptors
from imagen_async.cli.descriptors import affordable_concurrency, concurrency_within

INFINITE = -1


class Limits:
    """A system's limit on open files.

    Args:
        soft: The limit in force.
        hard: The highest value that the soft limit may be set to.
        raises: Error that raising it causes.
    """

    RLIMIT_NOFILE = 7
    RLIM_INFINITY = INFINITE

    def __init__(self, soft: int, hard: int, raises: type[Exception] | None = None) -> None:
        self.limits = soft, hard
        self._raises = raises

    def getrlimit(self, _: int) -> tuple[int, int]:
        return self.limits

    def setrlimit(self, _: int, limits: tuple[int, int]) -> None:
        if self._raises is not None:
            raise self._raises
        self.limits = limits


def given_limits(patch: pytest.MonkeyPatch, soft: int, hard: int, *, raises: type[Exception] | None = None) -> Limits:
    system = Limits(soft, hard, raises)
    patch.setattr(descriptors, "resource", system)
    return system


@given(wanted=st.integers(1, 10_000), soft=st.integers(0, 3000), more=st.integers(0, 3000), sandbox=st.booleans())
def test_the_concurrency_is_as_asked_or_as_fits_and_the_hard_limit_stays(
    wanted: int, soft: int, more: int, *, sandbox: bool
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        system = given_limits(patch, soft, soft + more)
        allowed = affordable_concurrency(wanted, sandbox=sandbox)
    assert system.limits[1] == soft + more
    assert soft <= system.limits[0] <= soft + more
    assert 1 <= allowed <= wanted
    if allowed < wanted:
        assert system.limits[0] == soft + more, "it was raised as far as it may be"
        assert allowed == concurrency_within(soft + more, sandbox=sandbox)
    else:
        assert concurrency_within(system.limits[0], sandbox=sandbox) >= wanted


@pytest.mark.parametrize("raises", [ValueError, OSError])
def test_a_limit_that_cannot_be_raised_is_respected_and_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], raises: type[Exception]
) -> None:
    given_limits(monkeypatch, 64, 4096, raises=raises)
    assert affordable_concurrency(200, sandbox=False) == 24
    assert "24 concurrent requests instead of 200" in capsys.readouterr().err


@pytest.mark.parametrize("limits", [(INFINITE, INFINITE), (240, 240), (64, INFINITE), (64, 240)])
def test_a_sufficient_limit_is_silent(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limits: tuple[int, int]
) -> None:
    given_limits(monkeypatch, *limits)
    assert affordable_concurrency(200, sandbox=False) == 200
    assert capsys.readouterr().err == ""
