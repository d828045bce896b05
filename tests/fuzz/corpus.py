"""The inputs in the repository: a folder for each target, made by `seeds`, with every finding added."""

from __future__ import annotations

from pathlib import Path

from tests.fuzz.targets import TARGETS

__all__ = ["CORPUS", "inputs"]

CORPUS = Path(__file__).parent / "corpus"


def inputs() -> list[tuple[str, Path]]:
    """List every input, with the target that it is for."""
    return [(target, path) for target in TARGETS for path in sorted((CORPUS / target).iterdir())]
