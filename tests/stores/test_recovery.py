from __future__ import annotations

import errno
import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from imagen_async.exceptions import StoreError
from imagen_async.stores import Found, ImageName, Kept, LocalStore, shard
from imagen_async.wire.image import Facts
from tests.pictures import SAMPLES, png

if TYPE_CHECKING:
    from pathlib import Path

FOX = ImageName("fox", 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


@pytest.fixture
def place(root: Path) -> Path:
    (root / shard("fox")).mkdir(parents=True)
    return root / shard("fox") / "fox-0.png"


def refuse_to_sync(_file: int) -> None:
    raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize(("kind", "ending"), [("png", ".png"), ("jpeg", ".jpg"), ("webp", ".webp")])
def test_a_complete_file_is_found_with_its_facts_and_hash(place: Path, root: Path, kind: str, ending: str) -> None:
    data = SAMPLES[kind][0]
    path = place.with_suffix(ending)
    path.write_bytes(data)
    facts = Facts(kind, 24, 16, len(data))
    assert LocalStore(root).find(FOX) == Found(Kept(path=str(path)), facts, hashlib.sha256(data).hexdigest())


def test_what_a_store_commits_a_later_store_finds(root: Path) -> None:
    name = ImageName("../train/Ünicode", 3)
    sink = LocalStore(root).open(name)
    sink.write(png())
    kept = sink.commit(Facts("png", 2, 2, len(png())))
    found = LocalStore(root).find(name)
    assert found is not None
    assert found.kept == kept
    assert LocalStore(root).find(ImageName("../train/Ünicode", 4)) is None


@pytest.mark.parametrize(
    "data", [png()[:-1], png() + b"\n", png().replace(b"pixels", b"pixel5"), b"", SAMPLES["jpeg"][0]]
)
def test_a_file_that_is_not_a_complete_image_of_its_format_is_not_adopted(place: Path, root: Path, data: bytes) -> None:
    place.write_bytes(data)
    assert LocalStore(root).find(FOX) is None
    assert place.read_bytes() == data


def test_a_broken_file_does_not_hide_a_complete_one_of_another_format(place: Path, root: Path) -> None:
    place.write_bytes(png()[:-1])
    place.with_suffix(".jpg").write_bytes(SAMPLES["jpeg"][0])
    found = LocalStore(root).find(FOX)
    assert found is not None
    assert found.facts.format == "jpeg"


def test_a_second_file_of_the_name_is_not_taken_for_the_first(place: Path, root: Path) -> None:
    place.with_name("fox-0~2.png").write_bytes(png())
    assert LocalStore(root).find(FOX) is None


def test_a_file_larger_than_the_limit_on_pixels_is_not_adopted(place: Path, root: Path) -> None:
    place.write_bytes(png())
    assert LocalStore(root).find(FOX, max_pixels=3) is None
    assert LocalStore(root).find(FOX, max_pixels=4) is not None


def test_nothing_is_found_in_a_missing_folder(root: Path) -> None:
    assert LocalStore(root).find(FOX) is None
    assert not root.exists()


def test_links_pipes_and_folders_are_not_adopted(place: Path, root: Path, tmp_path: Path) -> None:
    (tmp_path / "whole.png").write_bytes(png())
    place.symlink_to(tmp_path / "whole.png")
    os.mkfifo(place.with_suffix(".jpg"))
    place.with_suffix(".webp").mkdir()
    assert LocalStore(root).find(FOX) is None


def test_a_shard_that_is_a_symbolic_link_is_not_read(root: Path, tmp_path: Path) -> None:
    root.mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / "fox-0.png").write_bytes(png())
    (root / shard("fox")).symlink_to(tmp_path / "target")
    with pytest.raises(StoreError, match="symbolic link"):
        LocalStore(root).find(FOX)


@pytest.mark.parametrize("call", ["open", "read", "lstat"])
def test_a_disk_that_cannot_be_read_is_an_error_and_not_a_missing_file(
    place: Path, root: Path, call: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_bytes(png())

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(StoreError, match="EIO"):
        LocalStore(root).find(FOX)


def test_a_found_file_is_made_durable_if_the_store_syncs(
    place: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place.write_bytes(png())
    monkeypatch.setattr(os, "fsync", refuse_to_sync)
    assert LocalStore(root).find(FOX) is not None
    with pytest.raises(StoreError, match="EIO"):
        LocalStore(root, fsync=True).find(FOX)


def test_a_sweep_removes_the_temporary_files_of_a_killed_run_and_nothing_else(root: Path) -> None:
    killed = LocalStore(root)
    for index in range(3):
        killed.open(ImageName("fox", index)).write(b"...")
    temporary = root / ".partial"
    (temporary / "notes.partial").write_bytes(b"")
    (temporary / "imagen-0123456789ab-7.partial").symlink_to(temporary / "notes.partial")
    (temporary / "imagen-0123456789ab-8.partial").mkdir()
    store = LocalStore(root)
    store.open(FOX)
    assert store.sweep() == 3
    assert len(list(temporary.iterdir())) == 4
    assert store.sweep() == 0


def test_a_sweep_of_a_missing_folder_removes_nothing(root: Path) -> None:
    assert LocalStore(root).sweep() == 0
    assert LocalStore(root, temporary=root / "other").sweep() == 0
    assert not root.exists()


def test_a_sweep_does_not_follow_a_symbolic_link(root: Path, tmp_path: Path) -> None:
    elsewhere = LocalStore(tmp_path / "a", temporary=tmp_path / "elsewhere")
    elsewhere.open(FOX)
    root.mkdir()
    (root / ".partial").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="symbolic link"):
        LocalStore(root).sweep()
    assert len(list((tmp_path / "elsewhere").iterdir())) == 1


def test_a_sweep_without_permission_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    LocalStore(root).open(FOX)

    def fail(*_: object) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "unlink", fail)
    with pytest.raises(StoreError, match="check the permissions"):
        LocalStore(root).sweep()
