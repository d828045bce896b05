"""Every example in README.md and docs/ runs, and prints what the page says it prints.

One test a page, because later examples build on earlier ones; they share a folder and a sandbox gateway that stands
in for the real one. Run are ``python`` blocks, and ``console`` blocks command by command (``...`` in their output
stands for anything, and durations and sizes may differ); a block with a ``title="name"`` becomes that file. Other
blocks are for reading only.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sybil import Sybil
from sybil.evaluators.python import PythonEvaluator
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

from imagen_async.sandbox import running_sandbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sybil import Document, Example, Region

HOME = Path(__file__).parents[2]
PAGES = [HOME / "README.md", *sorted((HOME / "docs").rglob("*.md"))]
INFO = re.compile(r'(?P<language>\w+)(?: title="(?P<title>[^"]+)")?[^\n]*\n')
ANYTHING = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def blocks(document: Document) -> Iterator[Region]:
    for region in RawFencedCodeBlockLexer(INFO)(document):
        region.parsed = region.lexemes["source"]
        if region.lexemes["title"]:
            region.evaluator = write_file
        elif region.lexemes["language"] == "python":
            region.evaluator = PythonEvaluator()
        elif region.lexemes["language"] == "console":
            region.evaluator = run_commands
        else:
            continue
        yield region


def write_file(example: Example) -> None:
    path = Path(example.region.lexemes["title"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(example.parsed, encoding="utf-8")


def run_commands(example: Example) -> None:
    status = 0
    for command, expected in commands(example.parsed):
        # The status of the command before is the shell's, as a reader's shell has it.
        done = subprocess.run(["sh", "-c", f"(exit {status})\n{command}"], capture_output=True, text=True, check=False)  # noqa: S603, S607 - our own pages
        status = done.returncode
        where = f"{Path(example.path).name}:{example.line}: $ {command}"
        if not doctest.OutputChecker().check_output(measured(expected), measured(done.stdout), ANYTHING):
            raise AssertionError(f"{where}\nexpected:\n{expected}\ngot ({status}):\n{done.stdout}\n{done.stderr}")
        if status and not asks_for_status(example.parsed):
            raise AssertionError(f"{where}\nended with {status}:\n{done.stderr}")


def measured(text: str) -> str:
    """Remove durations and sizes, which differ between runs."""
    return re.sub(r"\d+(?:\.\d+)? (s|B|kB|MB)\b", lambda found: "# s" if found[1] == "s" else "# B", text)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """Split a console block into commands and their expected outputs; ``> `` goes on with a command."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        first, *rest = part.splitlines()
        more = [line[2:] for line in rest if line.startswith("> ")]
        yield "\n".join([first, *more]), "".join(f"{line}\n" for line in rest[len(more) :])


def asks_for_status(text: str) -> bool:
    return "$ echo $?" in text


SYBIL = Sybil(parsers=[blocks], patterns=["*.md"], path=str(HOME))


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set up a reader's shell: everything is installed, and the folder is empty."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("PYTEST_ADDOPTS", "PYTHONPATH"):
        monkeypatch.delenv(name, raising=False)
    with running_sandbox(images="tiny") as gateway:
        monkeypatch.setenv("IMAGEN_BASE_URL", gateway.base_url)
        monkeypatch.setenv("IMAGEN_API_KEY", gateway.api_key)
        yield


@pytest.mark.usefixtures("reader")
@pytest.mark.timeout(180)
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_every_example_of_the_page_runs(page: Path) -> None:
    for example in SYBIL.parse(page).examples():
        example.evaluate()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(HOME)))
def test_no_block_that_is_not_run_contains_our_command(page: Path) -> None:
    unread = re.findall(r"```(?:sh|bash|shell)\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert not [
        block for block in unread if re.search(r"^\s*(?:imagen-async|python -m imagen_async)\b", block, re.MULTILINE)
    ]
