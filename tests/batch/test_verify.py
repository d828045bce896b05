from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from imagen_async import ImageRequest
from imagen_async.batch import Problem, Verification
from imagen_async.batch.journal import (
    Journal,
    queries,
)
from imagen_async.exceptions import JournalError
from tests.batch.running import FOX, files, metadata, numbered, run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imagen_async.sandbox import SandboxGateway


def found(folder: Path) -> dict[str, str]:
    """The damage in a folder: what is wrong, by file name."""
    return {damage.file_name: str(damage.problem) for damage in Verification(folder)}


def everything(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.endswith(("-shm", "-wal"))
    }


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replace_by_link(path: Path) -> None:
    path.rename(path.with_name("real"))
    path.symlink_to("real")


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


async def test_an_unchanged_folder_has_no_damage(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    await run(imagen_sandbox, numbered(5, n=2), tmp_path)
    before = everything(tmp_path)
    verification = Verification(tmp_path)
    assert list(verification) == []
    assert (verification.images, sum(verification.damaged.values())) == (10, 0)
    assert verification.bytes == sum(line["bytes"] for line in metadata(tmp_path))
    assert everything(tmp_path) == before


@pytest.mark.parametrize(
    ("harm", "problem"),
    [
        (lambda path: path.unlink(), "missing"),
        (flip, "altered"),
        (lambda path: path.write_bytes(path.read_bytes() + b"x"), "altered"),
        (lambda path: path.write_bytes(b""), "altered"),
        (replace_by_link, "altered"),
        (replace_by_pipe, "altered"),
        (replace_by_folder, "altered"),
    ],
)
async def test_each_kind_of_damage_is_named_with_its_job(
    imagen_sandbox: SandboxGateway, tmp_path: Path, harm: Callable[[Path], object], problem: str
) -> None:
    await run(imagen_sandbox, [*numbered(3), ImageRequest(FOX, n=2, id="fox")], tmp_path)
    [line] = [line for line in metadata(tmp_path) if (line["id"], line["index"]) == ("fox", 1)]
    harm(tmp_path / line["file_name"])
    before = everything(tmp_path)
    [damage] = Verification(tmp_path)
    assert (damage.problem, damage.file_name, damage.id, damage.line, damage.index) == (
        Problem(problem),
        line["file_name"],
        "fox",
        4,
        1,
    )
    assert everything(tmp_path) == before


async def test_a_file_behind_a_link_to_another_folder_is_altered(
    imagen_sandbox: SandboxGateway, tmp_path: Path
) -> None:
    await run(imagen_sandbox, [FOX], tmp_path / "out")
    [name] = files(tmp_path / "out")
    shard = (tmp_path / "out" / name).parent
    shard.rename(tmp_path / "elsewhere")
    shard.symlink_to(tmp_path / "elsewhere")
    assert found(tmp_path / "out") == {name: "altered"}


@pytest.mark.parametrize(
    "name", ["../secret.png", "/etc/hostname", "images/../../secret.png", "", "C:x.png", "a\\b.png"]
)
async def test_a_record_that_names_a_place_outside_is_reported_and_not_opened(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = tmp_path / "out"
    await run(imagen_sandbox, [FOX], folder)
    (tmp_path / "secret.png").write_bytes(b"x")
    with closing(sqlite3.connect(folder / ".imagen" / "journal.sqlite", isolation_level=None)) as journal:
        journal.execute("UPDATE images SET record = json_set(record, '$.file_name', ?)", (name,))

    def refuse(*_: object, **__: object) -> int:
        raise AssertionError("a file was opened")

    monkeypatch.setattr(os, "open", refuse)
    assert found(folder) == {name: "outside"}


async def test_an_unreadable_file_is_not_called_altered(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(imagen_sandbox, [FOX], tmp_path)

    def refuse(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "read", refuse)
    [damage] = Verification(tmp_path)
    assert (damage.problem, damage.detail) == (Problem.UNREADABLE, "Input/output error")


async def test_more_images_than_a_page_are_all_read(
    imagen_sandbox: SandboxGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await run(imagen_sandbox, numbered(20), tmp_path)
    names = sorted(files(tmp_path))
    for name in names[::3]:
        (tmp_path / name).unlink()
    monkeypatch.setattr("imagen_async.batch.verify._PAGE", 4)
    assert found(tmp_path) == dict.fromkeys(names[::3], "missing")


async def test_a_folder_can_be_verified_during_a_run(imagen_sandbox: SandboxGateway, tmp_path: Path) -> None:
    await run(imagen_sandbox, numbered(4), tmp_path)
    (tmp_path / min(files(tmp_path))).unlink()
    async with await Journal.open(tmp_path / ".imagen", fsync=False) as journal:
        await journal.perform(queries.totals)
        assert list(found(tmp_path).values()) == ["missing"]


def test_a_folder_without_a_journal_is_refused(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="no journal here"):
        list(Verification(tmp_path))
