"""Links and the command line: status 2, nothing sent, nothing written."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Invoke

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right that few have there")

SANDBOX = ("--sandbox", "--sandbox-tiny", "--sandbox-ledger", "ledger.jsonl")


@pytest.mark.parametrize("name", ["", "images", ".imagen", "metadata.jsonl", ".imagen/journal.sqlite"])
def test_a_run_into_a_link_is_refused_and_costs_nothing(
    invoke: Invoke, prompts: Path, tmp_path: Path, name: str
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(elsewhere)
    ran = invoke("run", prompts, "-o", "out", *SANDBOX)
    assert (ran.status, ran.out) == (2, "")
    assert "is a symbolic link" in ran.err
    assert not (tmp_path / "ledger.jsonl").exists() or not (tmp_path / "ledger.jsonl").read_bytes()
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize("output", ["link", "link/", "link/.", "dangling/"])
def test_a_single_image_is_not_written_into_a_linked_folder(invoke: Invoke, tmp_path: Path, output: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "link").symlink_to(elsewhere)
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    ran = invoke("generate", "A red fox", "-o", output, *SANDBOX)
    assert (ran.status, ran.out) == (2, "")
    assert f"name the folder itself, {tmp_path}" in ran.err
    assert not list(elsewhere.iterdir())
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("target", ["elsewhere.png", "nowhere.png", "fox.png", "/dev/null"])
def test_a_single_image_is_not_written_through_a_link(invoke: Invoke, tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere.png").write_bytes(b"precious")
    (tmp_path / "fox.png").symlink_to(target)
    ran = invoke("generate", "A red fox", "-o", "fox.png", *SANDBOX)
    assert (ran.status, ran.out) == (2, "")
    assert "already exists" in ran.err
    assert (tmp_path / "elsewhere.png").read_bytes() == b"precious"
    assert not (tmp_path / "nowhere.png").exists()


def test_a_link_that_appears_where_the_image_is_to_go_is_not_written_through(
    invoke: Invoke, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link, elsewhere = tmp_path / "fox.png", tmp_path / "elsewhere.png"
    really = os.link

    def raced(*paths: str) -> None:
        if not link.is_symlink():
            link.symlink_to(elsewhere)
        really(*paths)

    monkeypatch.setattr(os, "link", raced)
    ran = invoke("generate", "A red fox", "-o", "fox.png", *SANDBOX)
    assert ran.status == 0
    assert ran.out == "fox~2.png\n"
    assert not elsewhere.exists()


def test_a_folder_above_may_be_a_link(invoke: Invoke, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    assert invoke("generate", "A red fox", "-o", "link/fox.png", *SANDBOX).status == 0
    assert os.listdir(tmp_path / "disk") == ["fox.png"]  # noqa: PTH208 - names are enough
