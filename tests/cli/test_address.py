"""The command line sends the key over https, to this machine, or with `--allow-http`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.transport.test_url import ELSEWHERE, KEY, NO_PLACE

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke


@pytest.mark.parametrize(
    "where",
    [(by, url) for url in (*ELSEWHERE[::4], *NO_PLACE[::4]) if url for by in ("--base-url", "IMAGEN_BASE_URL")],
)
def test_a_command_refuses_such_an_address_with_status_two_and_makes_nothing(
    invoke: Invoke, prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: tuple[str, str]
) -> None:
    by, url = where
    monkeypatch.setenv("IMAGEN_API_KEY", KEY)
    option = (f"--base-url={url}",) if by == "--base-url" else ()
    if not option:
        monkeypatch.setenv(by, url)
    for command in (("run", prompts, "-o", "out"), ("generate", "a fox", "-o", "x.png"), ("models", "--remote")):
        ran = invoke(*command, *option)
        assert (ran.status, ran.out) == (2, "")
        assert "the base URL" in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == [prompts.name]


def test_an_option_allows_the_key_over_http(invoke: Invoke, prompts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEN_API_KEY", KEY)
    # A port without a listener.
    ran = invoke("models", "--remote", "--base-url", "http://0.0.0.0:1/v1", "--allow-http")
    assert ran.status == 1
    assert "cannot connect" in ran.err
    assert prompts.exists()
