"""Nothing is written through a symbolic link, be it the output folder or something in it; nor is anything sent."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagen_async import ConfigurationError, StoreError
from imagen_async.stores import shard
from tests.batch import running

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from imagen_async.sandbox import SandboxGateway
    from imagen_async.sandbox.pytest_plugin import SandboxFactory

    Linked = Callable[[Path, Path], None]

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="links need a right that few have there")

FOLDERS = ["images", f"images/{shard('fox')}", ".imagen", ".imagen/tmp"]
FILES = [
    "metadata.jsonl",
    "errors.jsonl",
    "invalid.jsonl",
    ".imagen/journal.sqlite",
    ".imagen/journal.sqlite-wal",
    ".imagen/journal.sqlite-shm",
    ".imagen/lock.sqlite",
]


def to_a_folder(link: Path, elsewhere: Path) -> None:
    elsewhere.mkdir()
    link.symlink_to(elsewhere)


def to_a_file(link: Path, elsewhere: Path) -> None:
    elsewhere.write_bytes(b"precious")
    link.symlink_to(elsewhere)


def to_nothing(link: Path, elsewhere: Path) -> None:
    link.symlink_to(elsewhere)


def to_a_link(link: Path, elsewhere: Path) -> None:
    to_a_folder(elsewhere.with_name("second"), elsewhere)
    link.symlink_to(elsewhere.with_name("second"))


def to_itself(link: Path, _: Path) -> None:
    link.symlink_to(link)


def to_a_device(link: Path, _: Path) -> None:
    link.symlink_to("/dev/null")


def a_pipe(link: Path, _: Path) -> None:
    os.mkfifo(link)


LINKS = [to_a_folder, to_a_file, to_nothing, to_a_link, to_itself, to_a_device]


def seen(folder: Path) -> list[tuple[str, int, bytes | None]]:
    """Everything below a folder, with its bytes; links are not followed."""
    found = [(path, path.lstat().st_mode) for path in sorted(folder.rglob("*"))]
    return [(str(path), mode, path.read_bytes() if stat.S_ISREG(mode) else None) for path, mode in found]


async def refused(gateway: SandboxGateway, output: str | Path, folder: Path) -> str:
    """Run into `output`; see that nothing was sent, that nothing changed in `folder`, and return what was said."""
    before, asked = seen(folder), gateway.ledger.requests
    with pytest.raises(ConfigurationError) as caught:
        await running.run(gateway, [running.FOX, running.OWL], output, skip_invalid=True)  # type: ignore[arg-type] # text, as spelled
    assert seen(folder) == before
    assert gateway.ledger.requests == asked
    return str(caught.value)


@pytest.mark.parametrize("spelled", ["out", "out/", "out/."])
@pytest.mark.parametrize("linked", LINKS)
async def test_an_output_that_is_a_link_is_refused_and_its_target_named(
    tmp_path: Path, imagen_sandbox: SandboxGateway, linked: Linked, spelled: str
) -> None:
    linked(tmp_path / "out", tmp_path / "elsewhere")
    behind = "out" if linked is to_itself else "/dev/null" if linked is to_a_device else "elsewhere"
    said = await refused(imagen_sandbox, f"{tmp_path}/{spelled}", tmp_path)
    assert "out is a symbolic link" in said
    assert f"name the folder itself, {tmp_path / behind}" in said


@pytest.mark.parametrize("name", [*FOLDERS, *FILES])
@pytest.mark.parametrize("linked", [*LINKS, a_pipe])
async def test_links_and_devices_with_the_names_of_our_files_are_refused(
    tmp_path: Path, imagen_sandbox: SandboxGateway, linked: Linked, name: str
) -> None:
    if linked is a_pipe and name.startswith("images/"):
        pytest.skip("only links are looked for among the images, there may be other files")
    place = tmp_path / "out" / name
    place.parent.mkdir(parents=True)
    linked(place, tmp_path / "elsewhere")
    assert str(place) in await refused(imagen_sandbox, tmp_path / "out", tmp_path)


@pytest.mark.parametrize("name", ["images", ".imagen", ".imagen/tmp", *FILES])
async def test_a_file_that_a_link_replaced_since_the_last_run_is_refused(
    tmp_path: Path, imagen_sandbox: SandboxGateway, name: str
) -> None:
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    await running.run(imagen_sandbox, [running.FOX], output)
    if (output / name).exists():
        (output / name).rename(elsewhere)
    (output / name).symlink_to(elsewhere)
    assert "symbolic link" in await refused(imagen_sandbox, output, tmp_path)


async def test_a_link_above_the_output_is_the_user_s_choice(tmp_path: Path, imagen_sandbox: SandboxGateway) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    await running.run(imagen_sandbox, [running.FOX], tmp_path / "link" / "out")
    assert running.prompts(tmp_path / "disk" / "out") == [running.FOX]


async def test_the_current_folder_may_have_been_reached_by_a_link(
    tmp_path: Path, imagen_sandbox: SandboxGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    to_a_folder(tmp_path / "link", tmp_path / "disk")
    monkeypatch.chdir(tmp_path / "link")
    await running.run(imagen_sandbox, [running.FOX], Path())
    assert running.prompts(tmp_path / "disk") == [running.FOX]


@pytest.mark.parametrize("name", ["metadata.jsonl", "errors.jsonl", "invalid.jsonl"])
@pytest.mark.parametrize("linked", [to_a_file, to_nothing])
async def test_a_file_that_becomes_a_link_during_a_run_is_not_written_through(
    tmp_path: Path, imagen_sandbox_factory: SandboxFactory, linked: Linked, name: str
) -> None:
    gateway = await imagen_sandbox_factory(images="tiny", filtered=float(name == "errors.jsonl"))
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"

    async def rows() -> AsyncIterator[str | dict[str, str]]:
        yield running.FOX
        (output / name).unlink(missing_ok=True)
        linked(output / name, elsewhere)
        yield {"prompt": ""}
        yield running.OWL

    there = b"precious" if linked is to_a_file else None
    with pytest.raises(StoreError, match="is a symbolic link"):
        await running.run(gateway, rows(), output, skip_invalid=True)
    assert (elsewhere.read_bytes() if elsewhere.exists() else None) == there


async def test_a_hard_link_is_written_like_a_file(tmp_path: Path, imagen_sandbox: SandboxGateway) -> None:
    """So it is promised nowhere."""
    output = tmp_path / "out"
    await running.run(imagen_sandbox, [running.FOX], output)
    os.link(output / "metadata.jsonl", tmp_path / "twin")
    await running.run(imagen_sandbox, [running.FOX, running.OWL], output)
    assert len(running.lines(tmp_path / "twin")) == 2
