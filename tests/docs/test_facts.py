"""Facts on the pages match the code."""

from __future__ import annotations

import builtins
import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import imagen_async
from imagen_async import RetryPolicy, Timeouts, events, exceptions
from imagen_async.batch import Summary
from imagen_async.batch.journal import Doubt, Failure, read_status, schema
from imagen_async.batch.progress import Progress
from imagen_async.batch.text_files import error_line
from imagen_async.cli.exit_codes import Exit
from imagen_async.cli.status import _figures
from imagen_async.exceptions import FailureClass
from imagen_async.outcome import Status
from imagen_async.sandbox import FAULTS
from tests.docs import weak_cases
from tests.hostile.cases import CASES

DOCS = Path(__file__).parents[2] / "docs"
BILLED = {"none": "nothing", "asked": "all", "sent": "those sent"}


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def table_rows(text: str) -> list[list[str]]:
    # Every table's head is followed by a row of dashes; \| is a character of a cell.
    lines = [line for line in text.splitlines() if line.startswith("| ") and not line.startswith("| --")]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def test_the_table_of_faults_matches_the_sandbox() -> None:
    table = table_rows(page("reference/sandbox.md").partition("<!-- faults")[2])[1:]
    assert table == [[f"`{fault.name}`", fault.about, BILLED[fault.billed]] for fault in FAULTS.values()]


def test_the_error_tree_is_the_one_of_the_module() -> None:
    tree = re.search(r"^ImagenError\n.*?(?=```)", page("reference/errors-and-statuses.md"), re.MULTILINE | re.DOTALL)
    told = (exceptions.__doc__ or "").partition("::\n\n")[2].partition("\n\n")[0]
    assert tree is not None
    assert tree[0].split() == told.split()
    ours = {name for name in exceptions.__all__ if name.endswith("Error")}
    assert ours == {name for name in re.findall(r"\w+Error", tree[0]) if not hasattr(builtins, name)}


def test_every_status_and_failure_class_is_documented() -> None:
    text = page("reference/errors-and-statuses.md")
    first_cells = {row[0].strip("`") for row in table_rows(text)}
    assert set(Status) | set(FailureClass) <= first_cells


def test_every_check_that_a_hostile_response_fails_is_documented_with_what_to_do() -> None:
    text = page("reference/errors-and-statuses.md").partition("## Responses that cannot")[2].partition("\n## ")[0]
    told = {check for row in table_rows(text)[1:] for check in re.findall(r"`(.+?)`", row[0])}
    assert told == {case.check for case in CASES.values()} - {None}


def test_the_documented_exit_statuses_are_those_of_the_command_line() -> None:
    rows = table_rows(page("reference/command-line.md").partition("## Exit statuses")[2].partition("## Env")[0])
    told = {int(number) for row in rows[1:] for number in row[0].split(", ")}
    assert told == {*Exit, 130, 143}


def test_exactly_the_options_of_run_are_documented() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "imagen_async", "run", "--help"], capture_output=True, text=True, check=True
    )
    real = set(re.findall(r"^│[ *]{1,4}(--[a-z-]+)", done.stdout, re.MULTILINE))
    rows = table_rows(page("reference/command-line.md").partition("## `run`")[2].partition("The object")[0])
    told = {option for row in rows for option in re.findall(r"`(--[a-z-]+)", row[0])} | {"--n"}
    assert told == real


def test_every_key_of_the_json_object_is_documented() -> None:
    sentence = page("reference/command-line.md").partition("The object of `--json`")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", sentence) == list(Summary.of(Progress(), elapsed_s=0.0).as_dict())


def test_every_key_of_the_status_object_is_documented(tmp_path: Path) -> None:
    schema.create(tmp_path / schema.JOURNAL_NAME)
    sentence = page("reference/command-line.md").partition("The object of `status --json`")[2].partition(".")[0]
    assert re.findall(r"`(\w+)`", sentence) == list(_figures(read_status(tmp_path), running=False))


def test_every_key_of_a_doubt_is_documented() -> None:
    doubt = Doubt(attempt=1, at=1.0, reason="lost", images=1)
    failure = Failure(id=None, line=1, status="failed", attempts=1, at=1.0, error=None, doubts=(doubt,))
    rows = table_rows(page("reference/output-folder.md").partition("| key of a doubt")[2].partition("\n\n")[0])
    assert [row[0].strip("`") for row in rows] == list(json.loads(error_line(failure))["doubts"][0])


def test_the_documented_defaults_are_the_defaults() -> None:
    policy, timeouts = RetryPolicy(), Timeouts()
    text = " ".join(page("reference/errors-and-statuses.md").split())
    assert f"at most {policy.max_attempts} attempts, {policy.max_elapsed:,.0f} s" in text
    assert f"from {policy.initial:g} s to {policy.longest:g} s" in text
    assert f"{timeouts.connect:g} s to connect, {timeouts.read:g} s to the headers" in text
    assert f"between two reads of its body, {timeouts.total:g} s in all" in text


def test_the_weak_cases_on_the_page_are_those_of_the_simulator() -> None:
    told = page("explanation/performance.md").partition("<!-- weak cases")[2].partition("<!-- /weak")[0]
    assert table_rows(told)[1:] == table_rows("\n".join(weak_cases.table()))


def test_every_test_and_command_that_a_guarantee_names_exists() -> None:
    text = page("explanation/guarantees.md")
    named = re.findall(r"`(tests/[\w/.]+)`", text)
    assert len(named) > 20
    assert [name for name in named if not (DOCS.parent / name).exists()] == []
    targets = re.findall(r"^([a-z-]+):", (DOCS.parent / "Makefile").read_text(), re.MULTILINE)
    assert set(re.findall(r"`make ([a-z-]+)`", text)) <= set(targets)


def test_every_public_name_is_in_the_reference() -> None:
    text = page("reference/python.md")
    shown = set(re.findall(r"^::: imagen_async\.(?:\w+\.)*(\w+)$", text, re.MULTILINE))
    whole_modules = {*exceptions.__all__, *events.__all__}
    assert set(imagen_async.__all__) - shown - whole_modules == {"__version__", "CATALOG"}


def test_every_class_that_the_reference_shows_exists() -> None:
    for path in re.findall(r"^::: ([\w.]+)$", page("reference/python.md"), re.MULTILINE):
        module, _, name = path.rpartition(".")
        assert hasattr(importlib.import_module(module), name) or importlib.util.find_spec(path) is not None, path


def test_the_readme_s_python_is_what_type_checkers_check() -> None:
    example = (DOCS.parent / "README.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
    body = example.partition("async def main() -> None:\n")[2].partition("\n\n\n")[0]
    lines = [line.partition("  # ")[0].strip() for line in body.splitlines()]
    checked = (DOCS.parent / "tests/typing/client.py").read_text(encoding="utf-8")
    assert len(lines) > 10
    assert [line for line in lines if line not in checked] == []
