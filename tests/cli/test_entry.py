from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.child import ran, ran_into, ran_unread

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {name!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Blocked())
sys.argv = ["imagen-async", "--version"]
from imagen_async.cli.entry import main
main()
"""


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=False
    )


@pytest.mark.parametrize("name", ["cyclopts", "rich"])
def test_without_the_extra_there_is_one_clear_line_and_status_two(name: str) -> None:
    done = python(BLOCKED.format(name=name))
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr == "imagen-async: the command line needs an extra: pip install 'imagen-async[cli]'\n"


def test_another_missing_module_is_not_hidden() -> None:
    done = python(BLOCKED.format(name="traceback"))
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    done = ran("--help", folder=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: imagen-async COMMAND")


def test_help_imports_no_command_no_sandbox_and_no_live_display() -> None:
    code = (
        "import sys; from imagen_async.cli.app import launch; launch(['--help']); "
        "print(sorted(set(sys.modules) & {'imagen_async.sandbox', 'imagen_async.cli.run', "
        "'imagen_async.cli.options', 'rich.live', 'PIL', 'pyarrow'}), file=sys.stderr)"
    )
    assert python(code).stderr == "[]\n"


def test_a_closed_stdout_is_not_a_traceback(tmp_path: Path) -> None:
    done = ran_unread("models", folder=tmp_path)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full, as Linux has")
@pytest.mark.parametrize("command", [("models",), ("--help",), ("run", "prompts.txt", "--output", "out", "--dry-run")])
def test_a_full_disk_behind_stdout_is_a_message_and_not_a_traceback(tmp_path: Path, command: tuple[str, ...]) -> None:
    (tmp_path / "prompts.txt").write_text("A red fox\n")
    with Path("/dev/full").open("wb") as full:
        done = ran_into(full, *command, folder=tmp_path)
    assert done.returncode == 74
    assert done.stderr.decode().startswith("imagen-async: stdout cannot be written: ")
    assert b"Traceback" not in done.stderr


def test_an_interruption_during_the_imports_is_not_a_traceback() -> None:
    done = python(BLOCKED.format(name="rich").replace("raise ModuleNotFoundError", "raise KeyboardInterrupt  # "))
    assert (done.returncode, done.stderr) == (130, "")
