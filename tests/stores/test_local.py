from __future__ import annotations

import errno
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.exceptions import StoreError
from imagen_async.stores import ImageName, LocalStore, shard
from imagen_async.wire.image import Facts
from tests.pictures import SAMPLES, png

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FACTS = Facts("png", 2, 2, len(png()))
FOX = ImageName("fox", 0)
DESCRIPTORS = Path("/proc/self/fd")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "images"


def keep(store: LocalStore, name: ImageName = FOX, data: bytes = png(), facts: Facts = FACTS) -> Path:
    sink = store.open(name)
    try:
        sink.write(data)
        path = sink.commit(facts).path
    finally:
        sink.discard()
    assert path is not None
    return Path(path)


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if not path.is_dir()}


def failing(monkeypatch: pytest.MonkeyPatch, call: str, code: int, *, after: int = 0) -> list[tuple[Any, ...]]:
    """Let ``os.<call>`` fail with `code` once it has worked `after` times; the calls are listed."""
    calls: list[tuple[Any, ...]] = []
    real = getattr(os, call)

    def fake(*args: Any, **options: Any) -> Any:
        calls.append(args)
        if len(calls) > after:
            raise OSError(code, os.strerror(code))
        return real(*args, **options)

    monkeypatch.setattr(os, call, fake)
    return calls


def test_no_folder_is_made_before_the_first_image(root: Path) -> None:
    LocalStore(root)
    assert not root.exists()


def test_an_image_is_in_its_shard_with_the_extension_of_its_bytes(root: Path) -> None:
    store = LocalStore(root)
    for kind, ending in (("png", "png"), ("jpeg", "jpg"), ("webp", "webp")):
        data = SAMPLES[kind][0]
        path = keep(store, ImageName("fox", 3), data, Facts(kind, 24, 16, len(data)))
        assert path == root / shard("fox") / f"fox-3.{ending}"
        assert path.read_bytes() == data


def test_nothing_has_a_final_name_before_the_commit(root: Path) -> None:
    sink = LocalStore(root).open(FOX)
    sink.write(png())
    assert {path.parent for path in files(root)} == {root / ".partial"}
    sink.commit(FACTS)
    assert files(root) == {root / shard("fox") / "fox-0.png"}


def test_a_temporary_folder_may_be_elsewhere(root: Path, tmp_path: Path) -> None:
    store = LocalStore(root, temporary=tmp_path / "a" / "b")
    sink = store.open(FOX)
    assert {path.parent for path in files(tmp_path)} == {tmp_path / "a" / "b"}
    sink.write(png())
    sink.commit(FACTS)
    assert files(tmp_path) == {root / shard("fox") / "fox-0.png"}


def test_a_relative_root_gives_relative_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert keep(LocalStore("out/", fsync=True)) == Path("out", shard("fox"), "fox-0.png")
    assert keep(LocalStore("", fsync=True)) == Path(shard("fox"), "fox-0.png")


def test_only_a_store_that_syncs_asks_for_more_than_one_thread(root: Path) -> None:
    assert LocalStore(root).writers == 1
    assert LocalStore(root, fsync=True).writers == 4


def test_an_existing_file_is_never_overwritten(root: Path) -> None:
    store = LocalStore(root)
    keep(store, data=b"first")
    names = [keep(store, data=data).name for data in (b"second", b"third")]
    assert names == ["fox-0~2.png", "fox-0~3.png"]
    assert sorted(path.read_bytes() for path in files(root)) == [b"first", b"second", b"third"]


def test_a_dangling_link_at_the_final_name_is_neither_followed_nor_replaced(root: Path, tmp_path: Path) -> None:
    folder = root / shard("fox")
    folder.mkdir(parents=True)
    (folder / "fox-0.png").symlink_to(tmp_path / "elsewhere")
    assert keep(LocalStore(root)).name == "fox-0~2.png"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("links", ["links", "no links"])
def test_commits_of_one_name_from_many_threads_all_survive(
    root: Path, links: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if links == "no links":
        failing(monkeypatch, "link", errno.EPERM)
    store, count = LocalStore(root, fsync=True), 8
    barrier = threading.Barrier(count)

    def one(number: int) -> str:
        sink = store.open(FOX)
        sink.write(bytes([number]))
        barrier.wait()
        return sink.commit(FACTS).path or ""

    with ThreadPoolExecutor(count) as pool:
        paths = list(pool.map(one, range(count)))
    assert [Path(path).read_bytes() for path in paths] == [bytes([number]) for number in range(count)]
    assert files(root) == set(map(Path, paths))


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS])
def test_without_hard_links_files_are_renamed_and_still_not_overwritten(
    root: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = failing(monkeypatch, "link", code)
    store = LocalStore(root)
    assert [keep(store, data=data).name for data in (b"first", b"second")] == ["fox-0.png", "fox-0~2.png"]
    assert sorted(path.read_bytes() for path in files(root)) == [b"first", b"second"]
    assert len(calls) == 1  # What the file system cannot do is asked once.


def test_the_rest_of_a_partial_write_is_written(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(os, "write", lambda file, data: real(file, memoryview(data)[:7]))
    assert keep(LocalStore(root)).read_bytes() == png()


@given(parts=st.lists(st.binary(max_size=40), max_size=6), takes=st.lists(st.integers(1, 60), max_size=4))
def test_spans_of_any_size_are_written_whole_despite_partial_writes(parts: list[bytes], takes: list[int]) -> None:
    write, left = os.write, iter(takes)

    def written(file: int, parts: Sequence[bytes]) -> int:
        return write(file, b"".join(parts)[: next(left, sum(map(len, parts)))])

    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "writev", written)
        patch.setattr(os, "write", lambda file, data: written(file, [data]))
        sink = LocalStore(folder).open(FOX)
        sink.write_all(parts)
        path = sink.commit(FACTS).path
        assert path is not None
        assert Path(path).read_bytes() == b"".join(parts)


def test_more_spans_than_one_call_accepts_are_several_calls(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = os.writev

    def counted(file: int, parts: Sequence[bytes]) -> int:
        calls.append(len(parts))
        return real(file, parts)

    monkeypatch.setattr(os, "writev", counted)
    sink = LocalStore(root).open(FOX)
    sink.write_all([b"x"] * 1000)
    path = sink.commit(FACTS).path
    assert path is not None
    assert Path(path).read_bytes() == b"x" * 1000
    assert sum(calls) == 1000
    assert max(calls) <= 1000 // 3


def test_a_disk_that_accepts_no_bytes_is_an_error(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = LocalStore(root).open(FOX)
    monkeypatch.setattr(os, "write", lambda _file, _data: 0)
    with pytest.raises(StoreError, match="EIO"):
        sink.write(b"x")


@pytest.mark.parametrize(
    ("call", "code", "fsync"),
    [
        ("write", errno.ENOSPC, ""),
        ("close", errno.EIO, ""),
        ("link", errno.EIO, ""),
        ("link", errno.ENOENT, ""),
        ("mkdir", errno.EDQUOT, ""),
        ("fsync", errno.EIO, "fsync"),
    ],
)
def test_a_failing_disk_leaves_nothing_and_is_named(
    root: Path,
    call: str,
    code: int,
    fsync: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = LocalStore(root, fsync=fsync == "fsync")
    store.open(FOX).discard()
    failing(monkeypatch, call, code)
    sink = store.open(FOX)
    with pytest.raises(StoreError, match=errno.errorcode[code]) as caught:
        _write_and_commit(sink.write, lambda: sink.commit(FACTS))
    monkeypatch.undo()
    assert os.strerror(code) in caught.value.message
    assert str(caught.value.path).startswith(str(root))
    assert not {path for path in files(root) if path.suffix != ".partial"}
    with pytest.raises(StoreError, match="failed before"):
        _write_and_commit(sink.write, lambda: sink.commit(FACTS))
    sink.discard()
    assert not files(root)
    assert keep(store).name == "fox-0.png"


@given(st.lists(st.binary(max_size=40), max_size=6), st.integers(0, 5))
def test_bytes_written_before_the_disk_was_full_can_be_read_back(parts: list[bytes], fails_at: int) -> None:
    with tempfile.TemporaryDirectory() as root, pytest.MonkeyPatch.context() as patch:
        sink = LocalStore(root).open(FOX)
        for part in parts[:fails_at]:
            sink.write(part)
        failing(patch, "write", errno.ENOSPC)
        with pytest.raises(StoreError):
            sink.write(b"refused")
        assert sink.taken() == b"".join(parts[:fails_at])
        sink.discard()
        with pytest.raises(StoreError, match="image 0"):
            sink.taken()


def test_an_image_that_cannot_be_published_can_be_read_back(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(root, fsync=True)
    for call in ("fsync", "close", "link"):
        sink = store.open(FOX)
        sink.write(png())
        with monkeypatch.context() as patch:
            failing(patch, call, errno.EIO)
            with pytest.raises(StoreError, match="EIO"):
                sink.commit(FACTS)
        assert sink.taken() == png()
        sink.discard()
    assert not files(root)


def _write_and_commit(write: Callable[[bytes], None], commit: Callable[[], object]) -> None:
    write(png())
    commit()


def test_a_full_disk_is_an_error_with_advice(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sink = LocalStore(root).open(FOX)
    failing(monkeypatch, "write", errno.ENOSPC)
    with pytest.raises(StoreError, match="make room and run again"):
        sink.write(b"x")


def test_a_failed_sync_is_not_repeated(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(root, fsync=True)
    sink = store.open(FOX)
    calls = failing(monkeypatch, "fsync", errno.EIO)
    for _ in range(2):
        with pytest.raises(StoreError):
            sink.commit(FACTS)
    assert len(calls) == 1


def test_an_image_whose_folder_cannot_be_synced_is_not_kept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = LocalStore(root, fsync=True)
    kept = keep(store)
    failing(monkeypatch, "fsync", errno.EIO, after=1)  # The file's sync works, that of its folder does not.
    with pytest.raises(StoreError, match="EIO"):
        keep(store, data=b"second")
    assert files(root) == {kept}


def test_with_fsync_the_file_its_folder_and_every_new_folder_are_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[Path] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append((DESCRIPTORS / str(file)).readlink()))
    root = tmp_path / "a" / "b"
    store = LocalStore(root, fsync=True)
    keep(store)
    folder = root / shard("fox")
    assert synced[-1] == folder
    assert set(synced[:-1]) >= {tmp_path, tmp_path / "a", root}
    assert sum(path.parent == root / ".partial" for path in synced) == 1
    synced.clear()
    keep(store)
    assert [path.parent for path in synced] == [root / ".partial", root]


def test_without_fsync_nothing_is_synced(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = failing(monkeypatch, "fsync", errno.EIO)
    keep(LocalStore(root))
    assert not calls


@pytest.mark.parametrize("below", [".partial", shard("fox")])
def test_a_symbolic_link_below_the_root_is_refused(root: Path, tmp_path: Path, below: str) -> None:
    target = tmp_path / "target"
    target.mkdir()
    root.mkdir()
    (root / below).symlink_to(target)
    with pytest.raises(StoreError, match="symbolic link") as caught:
        keep(LocalStore(root))
    assert caught.value.path == str(root / below)
    assert not list(target.iterdir())


def test_a_file_in_the_place_of_a_folder_is_refused(root: Path) -> None:
    root.mkdir()
    (root / shard("fox")).write_bytes(b"")
    with pytest.raises(StoreError, match="not a folder"):
        keep(LocalStore(root))


@pytest.mark.parametrize("spelled", ["images", "images/", "images/."])
@pytest.mark.parametrize("there", [True, False], ids=["there", "dangling"])
def test_a_root_that_is_a_symbolic_link_is_refused_and_the_folder_behind_it_named(
    root: Path, tmp_path: Path, spelled: str, *, there: bool
) -> None:
    target = tmp_path / "disk"
    if there:
        target.mkdir()
    root.symlink_to(target)
    with pytest.raises(StoreError, match=f"name the folder itself, {target}"):
        keep(LocalStore(os.path.join(root.parent, spelled)))  # noqa: PTH118 - a Path drops what is tested here
    assert target.exists() == there
    assert not there or not list(target.iterdir())


def test_a_temporary_folder_that_is_a_symbolic_link_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "growing").symlink_to(tmp_path / "disk")
    with pytest.raises(StoreError, match="symbolic link"):
        keep(LocalStore(root, temporary=tmp_path / "growing"))
    assert not list((tmp_path / "disk").iterdir())


def test_a_symbolic_link_above_the_root_is_the_users_choice(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    keep(LocalStore(tmp_path / "link" / "images"))
    assert (tmp_path / "disk" / "images" / shard("fox") / "fox-0.png").exists()


def test_a_root_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StoreError, match="file"):
        LocalStore(tmp_path / "file" / "images").open(FOX)


def test_control_characters_of_a_path_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "\x1b[31m").write_bytes(b"")
    with pytest.raises(StoreError) as caught:
        LocalStore(tmp_path / "\x1b[31m").open(FOX)
    assert str(caught.value).isprintable()


def test_a_temporary_folder_on_another_file_system_is_refused_before_an_image_is_bought(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.stat

    def elsewhere(path: Any, **options: Any) -> Any:
        found = real(path, **options)
        fields = list(found)
        fields[2] += os.fspath(path) == str(tmp_path / "other") if not isinstance(path, int) else 0
        return os.stat_result(fields)

    monkeypatch.setattr(os, "stat", elsewhere)
    with pytest.raises(StoreError, match="EXDEV"):
        LocalStore(root, temporary=tmp_path / "other").open(FOX)


def test_removed_folders_are_made_again_for_the_next_image(root: Path) -> None:
    store = LocalStore(root)
    path = keep(store)
    path.unlink()
    path.parent.rmdir()
    with pytest.raises(StoreError, match="ENOENT"):
        keep(store)
    (root / ".partial").rmdir()
    with pytest.raises(StoreError, match="ENOENT"):
        keep(store)
    assert keep(store) == path


def test_temporary_names_of_a_forked_store_do_not_clash(root: Path) -> None:
    store = LocalStore(root)
    sink = store.open(FOX)
    (taken,) = files(root)
    token, number = taken.name.rsplit("-", 1)
    taken.with_name(f"{token}-{int(number.split('.')[0]) + 1}.partial").write_bytes(b"the fork's")
    other = store.open(FOX)
    assert len(files(root)) == 3
    sink.discard()
    other.discard()
    assert [path.read_bytes() for path in files(root)] == [b"the fork's"]


def test_the_mode_of_a_file_follows_the_umask(root: Path) -> None:
    before = os.umask(0o027)
    try:
        path = keep(LocalStore(root))
    finally:
        os.umask(before)
    assert path.stat().st_mode & 0o777 == 0o640


def test_no_descriptor_stays_open(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = len(list(DESCRIPTORS.iterdir()))
    store = LocalStore(root, fsync=True)
    keep(store)
    store.open(FOX).discard()
    assert store.find(FOX) is not None
    keep(store, ImageName("bad", 0), data=b"no image")
    assert store.find(ImageName("bad", 0)) is None
    failing(monkeypatch, "write", errno.ENOSPC)
    with pytest.raises(StoreError):
        keep(store)
    monkeypatch.undo()
    failing(monkeypatch, "fsync", errno.EIO)
    with pytest.raises(StoreError):
        keep(store)
    assert len(list(DESCRIPTORS.iterdir())) == before


@pytest.mark.parametrize("end", [lambda sink: sink.commit(FACTS), lambda sink: sink.discard()])
def test_an_ended_sink_accepts_no_bytes(root: Path, end: Callable[[Any], object]) -> None:
    sink = LocalStore(root).open(ImageName("fox", 2))
    end(sink)
    before = files(root)
    with pytest.raises(StoreError, match="image 2"):
        sink.write(b"x")
    with pytest.raises(StoreError, match="image 2"):
        sink.commit(FACTS)
    assert files(root) == before


def test_once_its_folders_are_known_an_image_costs_five_system_calls(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = LocalStore(root)
    keep(store)
    made: list[str] = []

    def counted(call: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def count(*args: Any, **options: Any) -> Any:
            made.append(call)
            return real(*args, **options)

        return count

    for call in ("open", "write", "close", "link", "unlink", "stat", "lstat", "mkdir", "rename", "fsync", "scandir"):
        monkeypatch.setattr(os, call, counted(call, getattr(os, call)))
    keep(store, ImageName("fox", 1))
    monkeypatch.undo()
    assert made == ["open", "write", "close", "link", "unlink"]


def test_the_repr_shows_the_folder() -> None:
    assert repr(LocalStore("out", fsync=True)) == "LocalStore('out', fsync=True)"
