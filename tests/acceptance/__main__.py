"""The command line of the acceptance runs."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.acceptance import every_image, kill_nine

RUNS = {"every-image": every_image.run, "kill-nine": kill_nine.run}


def main() -> int:
    """Run one of them in a folder that is removed afterwards, and return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.acceptance")
    parser.add_argument("run", choices=sorted(RUNS))
    parser.add_argument("prompts", type=Path)
    parser.add_argument("--folder", type=Path, help="where to work (a temporary folder)")
    parser.add_argument("options", nargs="*", help="further options of 'imagen-async run', after --")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="imagen-acceptance-", dir=given.folder) as folder:
        return RUNS[given.run](given.prompts, Path(folder), given.options)


sys.exit(main())
