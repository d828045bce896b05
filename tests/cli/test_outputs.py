from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.cli.outputs import Place, place_for, prompt_name, write_image
from imagen_async.exceptions import ConfigurationError, StoreError
from tests.windows import DESCRIPTORS, lock_open_files


@given(st.text())
def test_a_prompt_makes_a_safe_name(prompt: str) -> None:
    name = prompt_name(prompt)
    assert 1 <= len(name) <= 66
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-_")
    assert not name.startswith("-")


@pytest.mark.parametrize("prompt", ["con", "NUL", "Com1", "aux!"])
def test_a_windows_device_is_not_a_name(prompt: str) -> None:
    assert prompt_name(prompt).endswith("-image")


def test_a_folder_gets_files_named_after_the_prompt(tmp_path: Path) -> None:
    for output in (str(tmp_path), f"{tmp_path}/new/", None):
        place = place_for(output, "A red fox", n=2)
        assert place.path(0, n=2, format="png").name == "a-red-fox-1.png"
        assert place.path(1, n=2, format="jpeg").name == "a-red-fox-2.jpg"
    assert (tmp_path / "new").is_dir()


@pytest.mark.parametrize(
    ("name", "kind", "expected"),
    [
        ("fox.png", "png", "fox.png"),
        ("fox.PNG", "png", "fox.PNG"),
        ("fox.jpeg", "jpeg", "fox.jpeg"),
        ("fox.jpg", "jpeg", "fox.jpg"),
        ("fox.png", "jpeg", "fox.jpg"),
        ("fox.jpg", "webp", "fox.webp"),
        ("fox", "png", "fox.png"),
        ("fox-v1.0", "png", "fox-v1.0.png"),
    ],
)
def test_a_file_keeps_its_name_and_its_ending_follows_the_bytes(
    tmp_path: Path,
    name: str,
    kind: str,
    expected: str,
) -> None:
    place = place_for(str(tmp_path / name), "anything", n=1)
    assert place.path(0, n=1, format=kind) == tmp_path / expected


def test_a_jpeg_name_asks_for_a_jpeg() -> None:
    assert Place(Path(), "fox", ".JPEG").format == "jpeg"
    assert Place(Path(), "fox").format is None


@pytest.mark.parametrize(("there", "n"), [("fox.png", 1), ("fox-2.png", 2)])
def test_an_existing_file_is_refused_before_anything_is_sent(tmp_path: Path, there: str, n: int) -> None:
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(ConfigurationError, match="already exists"):
        place_for(str(tmp_path / "fox.png"), "anything", n=n)


def test_a_dangling_link_is_an_existing_file(tmp_path: Path) -> None:
    (tmp_path / "fox.png").symlink_to(tmp_path / "nowhere")
    with pytest.raises(ConfigurationError, match="already exists"):
        place_for(str(tmp_path / "fox.png"), "anything", n=1)


@pytest.mark.parametrize("output", ["", "a\0b"])
def test_an_invalid_path_is_refused(output: str) -> None:
    with pytest.raises(ConfigurationError, match="must be a path"):
        place_for(output, "anything", n=1)


def test_a_folder_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match="cannot be made"):
        place_for(str(tmp_path / "file" / "fox.png"), "anything", n=1)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        place_for(str(tmp_path), "anything", n=1)


def test_nothing_is_overwritten_and_nothing_else_is_left(tmp_path: Path) -> None:
    written = [write_image(tmp_path / "fox.png", data) for data in (b"1", b"2", b"3")]
    assert [path.name for path in written] == ["fox.png", "fox~2.png", "fox~3.png"]
    assert [path.read_bytes() for path in written] == [b"1", b"2", b"3"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fox.png", "fox~2.png", "fox~3.png"]


def test_without_hard_links_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, "no links here")

    monkeypatch.setattr(os, "link", refuse)
    written = [write_image(tmp_path / "fox.png", data) for data in (b"1", b"2")]
    assert [path.read_bytes() for path in written] == [b"1", b"2"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fox.png", "fox~2.png"]


def test_an_image_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="cannot be written"):
        write_image(tmp_path / "gone" / "fox.png", b"1")


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc to see which files are open")
def test_the_file_is_closed_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock_open_files(monkeypatch)
    write_image(tmp_path / "fox.png", b"1")
    assert [path.name for path in tmp_path.iterdir()] == ["fox.png"]


def test_the_users_umask_is_respected(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        path = write_image(tmp_path / "fox.png", b"1")
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640
