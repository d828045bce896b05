from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagen_async._version import __version__
from imagen_async.cli import models
from imagen_async.cli.app import app

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Invoke

COMMANDS = ("generate", "run", "status", "models", "sandbox")


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_examples_on_stdout(invoke: Invoke, command: str) -> None:
    ran = invoke(*command.split(), "--help")
    assert (ran.status, ran.err) == (0, "")
    examples = ran.out.partition("Examples:\n")[2]
    assert f"imagen-async {command}".strip() in examples
    # A line that the help's renderer broke would not be a line to copy.
    assert max(map(len, ran.out.splitlines())) <= 80


def test_the_first_help_names_every_command_and_exit_status(invoke: Invoke) -> None:
    ran = invoke("--help")
    for word in (*COMMANDS, "130", "70", "--install-completion"):
        assert word in ran.out


def test_no_command_shows_the_help(invoke: Invoke) -> None:
    assert invoke().out == invoke("--help").out


def test_the_version_is_that_of_the_package(invoke: Invoke) -> None:
    assert invoke("--version").out.strip() == __version__


@pytest.mark.parametrize(
    "arguments",
    [
        ("draw", "fox"),
        ("run",),
        ("run", "prompts.txt"),
        ("run", "prompts.txt", "-o"),
        ("run", "prompts.txt", "-o", "--json"),
        ("run", "--no-such-option", "-o", "out"),
        ("run", "prompts.txt", "-o", "out", "--no-such-option"),
        ("run", "prompts.txt", "-o", "out", "--concurrency", "many"),
        ("run", "prompts.txt", "-o", "out", "--progress", "loud"),
        ("run", "prompts.txt", "more.txt", "-o", "out"),
        ("generate",),
        ("generate", "fox", "-n", "2.5"),
        ("status",),
        ("sandbox", "--port", "none"),
    ],
)
def test_wrong_usage_is_one_line_on_stderr_and_status_two(invoke: Invoke, arguments: tuple[str, ...]) -> None:
    ran = invoke(*arguments)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err.startswith("imagen-async: ")
    assert ran.err.count("\n") == 1
    assert "--help)" in ran.err


def test_a_hostile_argument_is_escaped(invoke: Invoke) -> None:
    ran = invoke("run", "a.txt", "-o", "out", "--\x1b[31m[bold]x")
    assert ran.status == 2
    assert ran.err.strip().isprintable()
    assert r"\x1b[31m[bold]x" in ran.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_completion_script_is_made_for_each_shell(shell: str) -> None:
    script = app.generate_completion(shell=shell)  # type: ignore[arg-type] # parametrized
    for word in ("imagen-async", *COMMANDS, "retry-failed"):
        assert word in script


def options() -> Iterator[str]:
    for command in COMMANDS:
        for argument in app[command].assemble_argument_collection():
            yield from argument.names


def test_no_option_takes_a_key() -> None:
    assert {name for name in options() if "key" in name} == {"--api-key-file"}
    assert not {name for name in options() if any(word in name for word in ("token", "secret", "password"))}


def test_an_error_of_the_library_is_one_message_without_a_traceback(invoke: Invoke) -> None:
    ran = invoke("run", "no-such-file.txt", "-o", "out")
    assert ran == type(ran)(2, "", "imagen-async: no-such-file.txt: there is no such file\n")


def test_a_defect_shows_its_traceback_and_has_its_own_status(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> str:
        raise ZeroDivisionError("\x1b[2J")

    monkeypatch.setattr(models, "catalog_text", broken)
    ran = invoke("models")
    assert ran.status == 70
    assert ran.out == ""
    assert "Traceback" in ran.err
    assert r"ZeroDivisionError: \x1b[2J" in ran.err
    assert "defect of imagen-async" in ran.err


def test_a_closed_stdout_ends_the_command_silently(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(models, "write_result", broken)
    monkeypatch.setattr("imagen_async.cli.app.silence_stdout", lambda: None)
    ran = invoke("models")
    assert (ran.status, ran.out, ran.err) == (141, "", "")


def test_ctrl_c_without_a_handler_is_status_130(invoke: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(models, "catalog_text", interrupted)
    ran = invoke("models")
    assert (ran.status, ran.out, ran.err) == (130, "", "imagen-async: interrupted\n")
