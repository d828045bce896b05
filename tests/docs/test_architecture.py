"""The architecture page names every room, and page and glossary name only what exists."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import imagen_async

HOME = Path(__file__).parents[2]
PACKAGE = HOME / "imagen_async"
EXPLANATION = HOME / "docs" / "explanation"
PAGES = ["architecture.md", "glossary.md"]
FUTURE = {"export/", "integrations/"}
"""Rooms that the page names although they do not exist yet."""


def page(name: str) -> str:
    return (EXPLANATION / name).read_text(encoding="utf-8")


def named_modules(text: str) -> set[str]:
    """Every path of a module in backticks, or in the drawing, that does not belong to docs or tests."""
    found = set(re.findall(r"(?<![\w/.-])((?:[a-z_]+/)*[a-z_]+\.py)\b", text))
    return {name for name in found if not name.startswith(("docs/", "tests/"))}


def named_rooms(text: str) -> set[str]:
    found = set(re.findall(r"(?<![\w/.-])((?:[a-z_]+/)+)(?=[`\s])", text))
    return {name for name in found if not name.startswith(("docs/", "tests/"))} - FUTURE


def walk_rows(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^\| [^|]+ \| `([\w/]+\.py)` \| `([\w.]+)` \|$", text, re.MULTILINE)


def definitions(module: Path) -> set[str]:
    names: set[str] = set()

    def visit(nodes: list[ast.stmt], prefix: str) -> None:
        for node in nodes:
            if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                names.add(prefix + node.name)
            if isinstance(node, ast.ClassDef):
                visit(node.body, f"{prefix}{node.name}.")

    visit(ast.parse(module.read_text(encoding="utf-8")).body, "")
    return names


@pytest.mark.parametrize("name", PAGES)
def test_every_module_and_room_that_a_page_names_exists(name: str) -> None:
    text = page(name)
    assert named_modules(text)
    assert [module for module in named_modules(text) if not (PACKAGE / module).is_file()] == []
    assert [room for room in named_rooms(text) if not (PACKAGE / room / "__init__.py").is_file()] == []


def test_every_room_and_every_module_at_the_top_is_on_the_architecture_page() -> None:
    rooms = {f"{path.parent.relative_to(PACKAGE)}/" for path in PACKAGE.rglob("__init__.py")} - {"./"}
    assert rooms <= named_rooms(page("architecture.md"))
    assert {path.name for path in PACKAGE.glob("*.py")} <= named_modules(page("architecture.md"))


def test_every_function_of_the_walk_is_in_the_file_that_the_page_names() -> None:
    rows = walk_rows(page("architecture.md"))
    assert len(rows) > 20
    assert [(file, name) for file, name in rows if name not in definitions(PACKAGE / file)] == []


def test_the_floors_that_are_drawn_are_those_of_the_import_contract() -> None:
    settings = tomllib.loads((HOME / "pyproject.toml").read_text(encoding="utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    drawing = page("architecture.md").partition("```text\n")[2].partition("```")[0]
    drawn = [
        set(re.findall(r"(?<![\w/.])([a-z_]+)(?:/|\.py)(?=\s|$)", line))
        for line in re.findall(r"^\d .*", drawing, re.MULTILINE)
    ]
    assert drawn == [set(re.split(r" [:|] ", layer)) for layer in layers]


def test_the_code_that_the_glossary_names_is_public_or_a_module() -> None:
    cells = re.findall(r"^\| [^|]+ \| `([^`]+)` \|", page("glossary.md"), re.MULTILINE)
    names = {cell for cell in cells if not cell.endswith(".py")}
    assert names
    assert [name for name in names if not hasattr(imagen_async, name)] == []


def test_the_glossary_names_every_failure_class() -> None:
    [row] = re.findall(r"^\| failure class \|.*: (.*)\. \|$", page("glossary.md"), re.MULTILINE)
    assert row.split(", ") == [failure.value.replace("_", " ") for failure in imagen_async.FailureClass]
