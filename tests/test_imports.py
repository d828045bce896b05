"""What is loaded, and what is not, before it is used: in processes of their own, for this one has loaded it all."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

OPTIONAL = {"cyclopts", "rich", "PIL", "pyarrow", "isal"}
"""Modules of the extras."""
HELP = """
import sys
sys.argv = ["imagen-async", "--help"]
from imagen_async.cli.entry import main
try:
    main()
except SystemExit:
    pass
"""


def loaded(code: str) -> set[str]:
    """Run `code` in a fresh interpreter; give the names of all modules that it has loaded then."""
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_none_of_its_dependencies() -> None:
    heavy = {*OPTIONAL, "aiohttp", "asyncio", "attr", "pybase64", "tenacity"}
    assert loaded("import imagen_async").isdisjoint(heavy)


def test_all_public_names_load_no_extra_but_the_one_for_speed() -> None:
    assert loaded("from imagen_async import *") & OPTIONAL <= {"isal"}


@pytest.mark.parametrize("module", ["imagen_async.sandbox", "imagen_async.cli.entry"])
def test_what_needs_an_extra_loads_it_when_it_is_used(module: str) -> None:
    assert loaded(f"import {module}").isdisjoint(OPTIONAL)


def test_help_loads_the_command_line_and_nothing_of_what_commands_do() -> None:
    modules = loaded(HELP)
    assert modules & OPTIONAL <= {"cyclopts", "rich"}
    ours = {name for name in modules if name.startswith("imagen_async.") and not name.startswith("imagen_async.cli")}
    assert ours == {"imagen_async._version", "imagen_async.exceptions"}
