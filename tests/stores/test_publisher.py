from __future__ import annotations

import errno
import itertools
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async.exceptions import StoreError
from imagen_async.stores import ImageName, LocalStore
from imagen_async.stores.publisher import Publisher, candidates
from imagen_async.wire.image import Facts
from tests.windows import DESCRIPTORS, lock_open_files

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS = 8


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", link)


def finished(folder: Path, number: int) -> str:
    path = folder / f"{number}.partial"
    path.write_bytes(bytes([number]))
    return str(path)


def test_names_are_tried_in_order() -> None:
    assert list(itertools.islice(candidates("fox", ".png"), 3)) == ["fox.png", "fox~2.png", "fox~3.png"]


@pytest.mark.parametrize("links", ["links", "no links", "no call"])
def test_a_taken_name_is_passed_over(tmp_path: Path, links: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if links == "no links":
        without_links(monkeypatch)
    elif links == "no call":
        monkeypatch.delattr(os, "link")
    (tmp_path / "fox.png").write_bytes(b"mine")
    publisher = Publisher()
    names = [publisher.publish(finished(tmp_path, number), str(tmp_path / "fox"), ".png") for number in range(2)]
    assert names == [str(tmp_path / "fox~2.png"), str(tmp_path / "fox~3.png")]
    assert [Path(name).read_bytes() for name in names] == [b"\0", b"\1"]
    assert (tmp_path / "fox.png").read_bytes() == b"mine"


def test_without_links_no_thread_takes_a_name_between_anothers_check_and_rename(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch)
    calls: list[tuple[str, int]] = []

    def watched(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def watch(*paths: Any) -> Any:
            calls.append((name, threading.get_ident()))
            os.sched_yield()
            return real(*paths)

        return watch

    monkeypatch.setattr(os.path, "lexists", watched("check", os.path.lexists))
    monkeypatch.setattr(os, "rename", watched("rename", os.rename))
    publisher, barrier = Publisher(), threading.Barrier(THREADS)

    def publish(number: int) -> None:
        temporary = finished(tmp_path, number)
        barrier.wait()
        publisher.publish(temporary, str(tmp_path / "fox"), ".png")

    threads = [threading.Thread(target=publish, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    renames = [at for at, (name, _) in enumerate(calls) if name == "rename"]
    assert len(renames) == THREADS
    assert all(calls[at - 1] == ("check", calls[at][1]) for at in renames)
    assert len(list(tmp_path.glob("fox*.png"))) == THREADS


@pytest.mark.skipif(not DESCRIPTORS.is_dir(), reason="needs /proc to see which files are open")
@pytest.mark.parametrize("fails", [None, "write", "close", "fsync"])
def test_no_file_is_open_when_it_is_linked_renamed_or_removed(
    tmp_path: Path, fails: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock_open_files(monkeypatch)
    store = LocalStore(tmp_path, fsync=True)
    store.open(ImageName("otter", 0)).discard()
    sink = store.open(ImageName("fox", 0))
    sink.write(b"...")
    if fails is None:
        kept = sink.commit(Facts("png", 2, 2, 3))
    else:
        real = getattr(os, fails)

        def fail(file: int, *rest: object) -> None:
            if fails == "close":
                real(file, *rest)  # A failed close has closed the file.
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        with monkeypatch.context() as patch, pytest.raises(StoreError):
            patch.setattr(os, fails, fail)
            sink.write(b"...")
            sink.commit(Facts("png", 2, 2, 6))
        kept = None
    sink.discard()
    left = [str(path) for path in tmp_path.rglob("*") if path.is_file()]
    assert left == ([] if kept is None else [kept.path])


MISSING = ("O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "link", "writev", "pread", "posix_fallocate", "SEEK_DATA")
"""What Windows' `os` lacks; it has `link`, but not on every file system."""

SCRIPT = f"""
import os, pathlib, sys
from imagen_async import exceptions
from imagen_async.wire import image
for name in {MISSING}:
    delattr(os, name)
from imagen_async.sandbox.ledger import Ledger, LedgerEntry, read_ledger
from imagen_async.stores import ImageName, LocalStore
from tests.pictures import png
store = LocalStore(sys.argv[1], fsync=True)
for _ in range(2):
    sink = store.open(ImageName("fox", 0))
    sink.write_all([png()[:9], png()[9:]])
    assert sink.taken() == png()
    kept = sink.commit(image.Facts("png", 2, 2, len(png())))
assert store.find(ImageName("fox", 0)).kept == kept
assert kept.path.endswith("fox-0~2.png")
LocalStore(sys.argv[1]).open(ImageName("otter", 0))
assert store.sweep() == 1
path = pathlib.Path(sys.argv[1], "ledger.jsonl")
path.write_bytes(b"torn")
for ordinal in (1, 2):
    ledger = Ledger(path)
    ledger.record(LedgerEntry(ordinal=ordinal, at=0.0, request_id=str(ordinal), billed=1))
    ledger.close()
assert read_ledger(path).billed_images == 2
"""


def test_what_windows_lacks_is_not_needed(tmp_path: Path) -> None:
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", SCRIPT, str(tmp_path)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
