"""Makefile, CI, and the pages about them name the same targets and the same Python versions."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import imagen_async

HOME = Path(__file__).parents[2]


def text_of(name: str) -> str:
    return (HOME / name).read_text(encoding="utf-8")


def targets() -> set[str]:
    return set(re.findall(r"^([a-z-]+):", text_of("Makefile"), re.MULTILINE))


def test_every_target_has_a_line_in_make_help_and_in_contributing() -> None:
    explained = set(re.findall(r"^([a-z-]+):.*## \S", text_of("Makefile"), re.MULTILINE))
    assert explained == targets()
    assert targets() - {"help"} <= set(re.findall(r"`make ([a-z-]+)", text_of("CONTRIBUTING.md")))


def test_every_target_that_ci_or_a_page_names_exists() -> None:
    workflow = text_of(".github/workflows/ci.yml")
    assert {"lint", "test"} <= set(re.findall(r"make ([a-z-]+)", workflow)) <= targets()
    for page in (".ci/run", "CONTRIBUTING.md", ".github/pull_request_template.md", "README.md", "benchmarks/README.md"):
        assert set(re.findall(r"^(?:    )?make ([a-z-]+)|`make ([a-z-]+)", text_of(page), re.MULTILINE)), page
        named = {first or second for first, second in re.findall(r"^\s*make ([a-z-]+)|`make ([a-z-]+)", text_of(page))}
        assert named <= targets(), page


def test_the_supported_pythons_are_the_same_everywhere() -> None:
    classifiers = tomllib.loads(text_of("pyproject.toml"))["project"]["classifiers"]
    supported = [each.rpartition(" ")[2] for each in classifiers if re.search(r":: 3\.\d+$", each)]
    assert (
        re.findall(r'"(3\.\d+)"', text_of(".github/workflows/ci.yml").partition("python: [")[2].partition("]")[0])
        == supported
    )
    assert re.findall(r"3\.\d+", text_of(".ci/pythons").partition("for version in ")[2].partition(";")[0]) == supported


def test_the_changelog_begins_with_the_version_of_the_package() -> None:
    first = re.search(r"^## (\S+)", text_of("CHANGELOG.md"), re.MULTILINE)
    assert first is not None
    assert first[1] == imagen_async.__version__
