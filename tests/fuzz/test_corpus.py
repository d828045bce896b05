from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import pytest

from tests.fuzz.corpus import inputs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(("target", "path"), [pytest.param(*each, id=f"{each[0]}-{each[1].name}") for each in inputs()])
def test_every_input_of_the_corpus_is_read_as_promised(target: str, path: Path) -> None:
    importlib.import_module(f"tests.fuzz.targets.{target}").check(path.read_bytes())
