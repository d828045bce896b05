from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from imagen_async.exceptions import StoreError
from imagen_async.stores import ImageName, LocalStore
from imagen_async.stores.preallocation import Preallocator
from imagen_async.wire.image import Facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="this system takes no room beforehand")

SIZE = 300_000
BLOCK = 4096


@pytest.fixture
def file(tmp_path: Path) -> Iterator[int]:
    descriptor = os.open(tmp_path / "image", os.O_WRONLY | os.O_CREAT)
    yield descriptor
    os.close(descriptor)


def asked(monkeypatch: pytest.MonkeyPatch, fake: Callable[[int, int, int], None]) -> list[tuple[int, int]]:
    """Replace the system call by `fake`, and return a list of its calls."""
    calls: list[tuple[int, int]] = []

    def take(descriptor: int, offset: int, size: int) -> None:
        calls.append((offset, size))
        fake(descriptor, offset, size)

    monkeypatch.setattr(os, "posix_fallocate", take)
    return calls


def a_byte_in_each_block(descriptor: int, offset: int, size: int) -> None:
    """Do as glibc does where a file system cannot."""
    for at in range(offset, offset + size, BLOCK):
        os.pwrite(descriptor, b"\0", min(at + BLOCK, offset + size) - 1)


def failing(code: int) -> Callable[[int, int, int], None]:
    def fail(*_: int) -> None:
        raise OSError(code, os.strerror(code))

    return fail


def test_space_is_reserved_before_a_byte_is_written(file: int) -> None:
    Preallocator().reserve(file, 0, SIZE)
    if os.fstat(file).st_blocks * 512 < SIZE:
        pytest.skip("the file system of this folder takes no room beforehand")
    assert os.lseek(file, 0, os.SEEK_CUR) == 0


def test_no_space_is_reserved_for_a_small_write(file: int) -> None:
    Preallocator().reserve(file, 0, 1000)
    assert os.fstat(file).st_size == 0


def test_space_is_reserved_for_each_write(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = asked(monkeypatch, os.posix_fallocate)
    sink = LocalStore(tmp_path).open(ImageName("fox", 0))
    sink.write_all((b"a" * SIZE, b"b" * SIZE))
    sink.write(b"c" * 10)
    sink.write(b"d" * SIZE)
    path = sink.commit(Facts("png", 2, 2, 3 * SIZE + 10)).path
    assert calls[0] == (0, 2 * SIZE)
    assert calls[1:] in ([], [(2 * SIZE + 10, SIZE)])  # the former where the file system cannot
    assert path is not None
    with open(path, "rb") as kept:  # noqa: PTH123 - the store gives plain strings
        assert kept.read() == b"a" * SIZE + b"b" * SIZE + b"c" * 10 + b"d" * SIZE


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV])
def test_a_system_that_cannot_reserve_is_asked_once(monkeypatch: pytest.MonkeyPatch, file: int, code: int) -> None:
    calls = asked(monkeypatch, failing(code))
    preallocator = Preallocator()
    for offset in range(0, 3 * SIZE, SIZE):
        preallocator.reserve(file, offset, SIZE)
    assert calls == [(0, SIZE)]


def test_a_substitute_that_writes_is_detected_and_not_used_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls = asked(monkeypatch, a_byte_in_each_block)
    store, content = LocalStore(tmp_path), bytes(range(256)) * (SIZE // 256)
    for index in range(3):
        sink = store.open(ImageName("fox", index))
        sink.write(content)
        sink.commit(Facts("png", 2, 2, len(content)))
    assert calls == [(0, len(content))]
    assert [path.read_bytes() for path in tmp_path.rglob("*.png")] == [content] * 3


def test_only_the_first_write_of_a_file_shows_whether_the_file_system_reserves(
    monkeypatch: pytest.MonkeyPatch, file: int
) -> None:
    calls = asked(monkeypatch, lambda *_: None)
    preallocator = Preallocator()
    os.write(file, b"a" * 100)
    preallocator.reserve(file, 100, SIZE)
    preallocator.reserve(file, 100 + SIZE, SIZE)
    assert len(calls) == 2
    assert os.lseek(file, 0, os.SEEK_CUR) == 100


def test_a_full_disk_is_an_error_before_anything_is_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked(monkeypatch, failing(errno.ENOSPC))
    written: list[object] = []
    for call in ("write", "writev"):
        monkeypatch.setattr(os, call, lambda *args: written.append(args))
    sink = LocalStore(tmp_path).open(ImageName("fox", 0))
    with pytest.raises(StoreError, match=r"No space left on device \(ENOSPC\); make room"):
        sink.write(b"a" * SIZE)
    assert written == []
    assert sink.taken() == b""
    sink.discard()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
