"""Which modules an import loads, in new processes; and where the public names live."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest

import imagen_async

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
    """Run `code` in a new interpreter, and return the names of all modules that it loaded."""
    code += "\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - ours
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_importing_the_package_loads_none_of_its_dependencies() -> None:
    heavy = {*OPTIONAL, "aiohttp", "asyncio", "attr", "pybase64", "tenacity"}
    assert loaded("import imagen_async").isdisjoint(heavy)


def test_all_public_names_load_no_extra_but_the_one_for_speed() -> None:
    assert loaded("from imagen_async import *") & OPTIONAL <= {"isal"}


@pytest.mark.parametrize("module", ["imagen_async.sandbox", "imagen_async.cli.entry"])
def test_a_module_that_needs_an_extra_loads_it_only_when_used(module: str) -> None:
    assert loaded(f"import {module}").isdisjoint(OPTIONAL)


def test_help_loads_the_command_line_and_nothing_that_commands_use() -> None:
    modules = loaded(HELP)
    assert modules & OPTIONAL <= {"cyclopts", "rich"}
    ours = {name for name in modules if name.startswith("imagen_async.") and not name.startswith("imagen_async.cli")}
    assert ours == {"imagen_async._version", "imagen_async.exceptions"}


def test_every_public_name_is_there_and_has_one_home() -> None:
    homes = {name: home for home, names in imagen_async._EXPORTS.items() for name in names}
    assert sorted([*homes, "__version__"]) == sorted(imagen_async.__all__)
    for name, home in homes.items():
        module = importlib.import_module(f"imagen_async.{home}")
        assert getattr(imagen_async, name) is getattr(module, name)
        assert name in module.__all__
    assert set(imagen_async.__all__) <= set(dir(imagen_async))


def test_type_checkers_see_the_same_names_from_the_same_homes() -> None:
    tree = ast.parse(Path(imagen_async.__file__).read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    seen = {(node.module or "").removeprefix("imagen_async."): {each.name for each in node.names} for node in imports}
    assert len(imports) == len(seen) == len(block.body)
    assert seen == {home: set(names) for home, names in imagen_async._EXPORTS.items()}


def test_every_public_name_and_each_of_its_methods_has_a_docstring() -> None:
    for name in set(imagen_async.__all__) - {"__version__"}:
        thing = getattr(imagen_async, name)
        members = vars(thing).items() if isinstance(thing, type) and thing.__module__.startswith("imagen_async") else ()
        methods = [each for each, value in members if not each.startswith("_") and callable(value)]
        assert inspect.getdoc(thing), name
        assert [each for each in methods if not inspect.getdoc(getattr(thing, each))] == [], name


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'imagen_async' has no attribute 'ImagineClient'"):
        imagen_async.ImagineClient  # noqa: B018 - the point of the test
