from __future__ import annotations

from typing import TYPE_CHECKING

import attrs
import pytest

from benchmarks import rounds
from benchmarks.contender import KEPT
from benchmarks.processes import RunFailedError, Served
from benchmarks.rounds import Plan, fresh_folder, play

if TYPE_CHECKING:
    from pathlib import Path

IMAGE = b"an image of some bytes"


def verify(folder: Path, asked: int) -> None:
    rounds._verify(folder, IMAGE, asked)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(IMAGE)
    return tmp_path


def test_a_run_whose_files_are_what_was_served_counts(folder: Path) -> None:
    verify(folder, 3)


@pytest.mark.parametrize("asked", [2, 4])
def test_a_run_that_lost_or_made_up_an_image_gives_no_figure(folder: Path, asked: int) -> None:
    with pytest.raises(RunFailedError, match=f"3 images kept, 3 of them whole, {asked} asked for"):
        verify(folder, asked)


def test_a_run_with_one_different_byte_gives_no_figure(folder: Path) -> None:
    (folder / "1.png").write_bytes(IMAGE.swapcase())
    with pytest.raises(RunFailedError, match="3 images kept, 2 of them whole"):
        verify(folder, 3)


def test_a_file_that_was_left_behind_is_not_an_image(folder: Path) -> None:
    (folder / ".partial").write_bytes(b"")
    with pytest.raises(RunFailedError, match="4 images kept, 3 of them whole"):
        verify(folder, 3)


def test_the_journal_of_a_batch_is_not_mistaken_for_images(tmp_path: Path) -> None:
    (tmp_path / "metadata.jsonl").write_text("{}", encoding="utf-8")
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").write_bytes(IMAGE)
    verify(tmp_path, 1)
    with pytest.raises(RunFailedError):
        verify(tmp_path, 2)


@pytest.mark.parametrize("kept", [IMAGE * 2, IMAGE * 3 + b"x", IMAGE + IMAGE.swapcase() + IMAGE])
def test_images_that_stayed_in_memory_are_compared(tmp_path: Path, kept: bytes) -> None:
    (tmp_path / KEPT).write_bytes(IMAGE * 3)
    verify(tmp_path, 3)
    (tmp_path / KEPT).write_bytes(kept)
    with pytest.raises(RunFailedError):
        verify(tmp_path, 3)


@pytest.mark.slow
def test_contenders_of_every_kind_give_their_figures(tmp_path: Path) -> None:
    names = ("ours", "ours-batch", "aiohttp-json", "bare-tenacity", "floor")
    plan = Plan(
        contenders=names,
        images=dict.fromkeys(names, 6),
        rounds=1,
        size=2_000,
        n=2,
        concurrency=3,
        warm_up=2,
        small_warm_up=True,
        tls=True,
        in_memory=True,
        touch=False,
        limit=30.0,
        folder=tmp_path,
    )
    results = play(plan, tell=print)
    assert results.absent == {}
    assert [run.images for runs in results.runs.values() for run in runs] == 5 * [6]
    held = play(attrs.evolve(plan, contenders=("ours",), hold=3, warm_up=6, in_memory=False, tls=False), tell=print)
    assert held.absent == {}
    assert {path.stat().st_size for path in tmp_path.rglob("*.png")} == {0}, "emptied, and not deleted yet"


def test_a_fresh_folder_is_removed_with_its_contents(tmp_path: Path) -> None:
    with fresh_folder(tmp_path / "out") as folder:
        (folder / "1.png").touch()
        assert folder.parent == tmp_path / "out"
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "somebody's").touch()
    with fresh_folder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["somebody's"]


@pytest.mark.slow
def test_a_run_in_which_too_few_requests_waited_gives_no_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"held": 2}
    monkeypatch.setattr(Served, "last_words", lambda _: said)
    plan = Plan(contenders=("bare",), images={"bare": 4}, rounds=1, size=2_000, warm_up=0, concurrency=3, hold=3)
    results = play(attrs.evolve(plan, folder=tmp_path, touch=False), tell=print)
    assert results.absent == {"bare": "only 2 requests waited at once, not 3"}
