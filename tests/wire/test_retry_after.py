from __future__ import annotations

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.wire.retry_after import LONGEST, retry_after, retry_delay, should_retry

NOW = 1_800_000_000.0


def wait(**headers: str) -> float | None:
    return retry_after({name.replace("_", "-"): text for name, text in headers.items()}, now=NOW)


@pytest.mark.parametrize(("text", "seconds"), [("0", 0), ("1", 1), ("1.5", 1.5), (" 20 ", 20), ("1e3", 1000)])
def test_seconds_whole_or_fractional(text: str, seconds: float) -> None:
    assert wait(Retry_After=text) == seconds


@pytest.mark.parametrize("text", ["nan", "-1", "soon", "", "Fri, 99 Foo 2026 00:00:00 GMT", "0x10"])
def test_what_says_nothing_usable_is_none(text: str) -> None:
    assert wait(Retry_After=text) is None


@pytest.mark.parametrize("text", ["1e309", "inf", "9" * 400, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_wait_is_longer_than_a_day(text: str) -> None:
    assert wait(Retry_After=text) == LONGEST


def test_milliseconds_win_over_seconds() -> None:
    assert retry_after({"retry-after-ms": "250", "Retry-After": "7"}, now=NOW) == 0.25


@given(st.floats(-7200, 7200), st.integers(0, 3600))
def test_a_date_counts_from_the_servers_clock_whatever_ours_says(skew: float, seconds: int) -> None:
    server = NOW + skew
    headers = {"Date": formatdate(server, usegmt=True), "Retry-After": formatdate(server + seconds, usegmt=True)}
    found = retry_after(headers, now=NOW)
    assert found is not None
    assert abs(found - seconds) <= 1


def test_a_date_without_the_servers_clock_counts_from_ours() -> None:
    assert wait(Retry_After=formatdate(NOW + 30, usegmt=True)) == pytest.approx(30, abs=1)


def test_a_date_in_the_past_means_no_wait() -> None:
    assert wait(Retry_After=formatdate(NOW - 30, usegmt=True)) == 0


@given(st.text())
def test_any_text_is_a_bounded_wait_or_none(text: str) -> None:
    found = wait(Retry_After=text)
    assert found is None or 0 <= found <= LONGEST


@pytest.mark.parametrize(
    ("details", "seconds"),
    [
        ([{"@type": "x"}, {"retryDelay": "11.8s"}], 11.8),
        ({"retryDelay": "2s"}, 2.0),
        ([{"retryDelay": "soon"}], None),
        ([{"retryDelay": 3}], None),
        (None, None),
        ("2s", None),
        ([None, 1], None),
    ],
)
def test_googles_retry_delay(details: object, seconds: float | None) -> None:
    assert retry_delay(details) == seconds


@pytest.mark.parametrize(("text", "told"), [("true", True), (" FALSE ", False), ("maybe", None), ("", None)])
def test_x_should_retry(text: str, told: bool | None) -> None:  # noqa: FBT001 - a table of expectations
    assert should_retry({"x-should-retry": text}) is told
