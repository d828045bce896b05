from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from benchmarks.steps import STEPS, main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_every_step_still_fits_the_code_that_it_switches_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["steps", "--rounds=1", "--images=4", f"--folder={tmp_path}"])
    main()
    _, _, *rows = capsys.readouterr().out.splitlines()
    assert [row.split(" | ")[0] for row in rows] == [f"| {text}" for text in STEPS.values()]
