"""The drawings in ``docs/assets`` are complete, match their scripts, and match the code."""

from __future__ import annotations

import runpy
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagen_async import FailureClass, RetryQuota, Status

if TYPE_CHECKING:
    from collections.abc import Callable

DOCS = Path(__file__).parents[2] / "docs"
DRAWINGS = sorted((DOCS / "assets").glob("*.svg"))
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def pictures() -> dict[str, Callable[[], str]]:
    drawn: dict[str, Callable[[], str]] = runpy.run_path(str(DOCS / "draw_states.py"))["PICTURES"]
    return drawn


def words(name: str) -> set[str]:
    texts = ET.parse(DOCS / "assets" / name).getroot().iter(f"{SVG}text")  # noqa: S314 - our own files
    return {word for text in texts for word in (text.text or "").replace(",", "").split()}


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.name)
def test_a_drawing_is_well_formed_and_fetches_nothing(drawing: Path) -> None:
    root = ET.parse(drawing).getroot()  # noqa: S314 - our own files
    assert root.tag == f"{SVG}svg"
    text = drawing.read_text(encoding="utf-8")
    assert not any(word in text for word in ("<!DOCTYPE", "<script", "@import"))
    for element in root.iter():
        for name, value in element.attrib.items():
            assert value.startswith("#") or not name.endswith("href")
            assert value.count("url(") == value.count("url(#")


def test_the_drawings_of_states_are_what_their_script_draws(pictures: dict[str, Callable[[], str]]) -> None:
    for name, draw in pictures.items():
        assert (DOCS / "assets" / name).read_text(encoding="utf-8") == draw(), f"run docs/draw_states.py for {name}"


def test_every_failure_class_and_every_status_is_drawn() -> None:
    assert {*FailureClass, *Status} - {Status.SKIPPED} <= words("attempt.svg")


def test_the_circuit_is_drawn_with_the_quota_that_is_the_default() -> None:
    quota = RetryQuota()
    drawn = {f"{number:g}" for number in (quota.capacity, quota.retry_cost, quota.reserve, quota.cooldown)}
    assert drawn <= words("circuit.svg")


@pytest.mark.parametrize("drawing", DRAWINGS, ids=lambda drawing: drawing.name)
def test_every_drawing_is_on_a_page_and_has_an_alternative_text(drawing: Path) -> None:
    pages = [page.read_text(encoding="utf-8") for page in DOCS.rglob("*.md")]
    shown = [page.partition(f"assets/{drawing.name})")[0] for page in pages if f"assets/{drawing.name})" in page]
    assert shown
    assert all(len(page.rpartition("![")[2].partition("]")[0]) > 20 for page in shown)
