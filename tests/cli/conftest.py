"""Running commands inside the test's process."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import pytest

from imagen_async.cli.app import launch

if TYPE_CHECKING:
    from pathlib import Path


@attrs.frozen
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The last line of the standard output."""
        return json.loads(self.out.splitlines()[-1])


class Invoke(Protocol):
    def __call__(self, *arguments: object) -> Ran: ...


@pytest.fixture
def invoke(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Invoke:
    """Run a command in an empty folder, without a key, a gateway's address or a wide terminal."""
    monkeypatch.chdir(tmp_path)
    for name in ("IMAGEN_API_KEY", "IMAGEN_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object) -> Ran:
        capfd.readouterr()
        status = launch([str(argument) for argument in arguments])
        out, err = capfd.readouterr()
        return Ran(status, out, err)

    return run


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """A file of three prompts."""
    path = tmp_path / "prompts.txt"
    path.write_text("A red fox\nA blue whale\nAn owl\n", encoding="utf-8")
    return path
