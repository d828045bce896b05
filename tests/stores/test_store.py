"""The rules for every store, including the one in the documentation."""

from __future__ import annotations

import doctest
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from imagen_async.exceptions import ConfigurationError, UsageError
from imagen_async.stores import ImageName, Kept, LocalStore, MemoryStore, Store, store, write_all
from imagen_async.stores.memory import MemorySink
from imagen_async.stores.store import checked_store
from imagen_async.wire.image import Facts
from tests.pictures import png

FACTS = Facts("png", 2, 2, len(png()))
NAME = ImageName("fox", 0)
Read = Callable[[Kept], bytes]


def documented() -> dict[str, Any]:
    """Return the names that the example in `Store`'s docstring defines."""
    (test,) = (test for test in doctest.DocTestFinder(recurse=False).find(store.Store, "Store", store))
    names: dict[str, Any] = {}
    test.globs = names
    outcome = doctest.DocTestRunner(optionflags=doctest.REPORT_ONLY_FIRST_FAILURE).run(test, clear_globs=False)
    assert outcome.attempted
    assert not outcome.failed
    return names


def memory(_folder: Path) -> tuple[Store, Read]:
    return MemoryStore(), lambda kept: kept.data or b""


def local(folder: Path) -> tuple[Store, Read]:
    return LocalStore(folder / "images", fsync=True), lambda kept: Path(kept.path or "").read_bytes()


def example(_folder: Path) -> tuple[Store, Read]:
    archive = zipfile.ZipFile(io.BytesIO(), "w")
    return documented()["ZipStore"](archive), lambda kept: archive.read(kept.path or "")


@pytest.fixture(params=[memory, local, example])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Store, Read]]:
    made: tuple[Any, Read] = request.param(tmp_path)
    yield made
    if hasattr(made[0], "archive"):
        made[0].archive.close()


def test_an_image_written_in_pieces_is_kept_whole(place: tuple[Store, Read]) -> None:
    one, read = place
    sink = one.open(ImageName("fox", 0))
    buffer = bytearray(4)
    for start in range(0, len(png()), 4):
        piece = png()[start : start + 4]
        buffer[: len(piece)] = piece
        sink.write(memoryview(buffer)[: len(piece)])
    assert read(sink.commit(FACTS)) == png()


def test_a_sink_is_discarded_at_any_time_and_twice(place: tuple[Store, Read]) -> None:
    one, _ = place
    sink = one.open(ImageName("fox", 0))
    sink.write(b"...")
    sink.discard()
    sink.discard()


def test_a_discard_after_the_commit_keeps_the_image(place: tuple[Store, Read]) -> None:
    one, read = place
    sink = one.open(ImageName("fox", 0))
    sink.write(png())
    kept = sink.commit(FACTS)
    sink.discard()
    assert read(kept) == png()


def test_sinks_of_one_store_do_not_mix(place: tuple[Store, Read]) -> None:
    one, read = place
    sinks = [one.open(ImageName("fox", index)) for index in range(3)]
    for _ in range(2):
        for number, sink in enumerate(sinks):
            sink.write(bytes([number]))
    assert [read(sink.commit(FACTS)) for sink in sinks] == [b"\0\0", b"\1\1", b"\2\2"]


def test_the_documented_store_is_twenty_lines_and_makes_a_zip_file() -> None:
    assert store.Store.__doc__ is not None
    assert sum(line.strip().startswith("... ") for line in store.Store.__doc__.splitlines()) <= 20
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        sink = documented()["ZipStore"](archive).open(ImageName("../Fox", 0))
        sink.write(png())
        path = sink.commit(FACTS).path
    with zipfile.ZipFile(file) as archive:
        assert archive.namelist() == [path]
        assert archive.testzip() is None


def test_an_index_below_zero_is_refused() -> None:
    with pytest.raises(UsageError, match="-1"):
        ImageName("fox", -1)


def test_bytes_are_not_in_the_repr() -> None:
    assert repr(Kept(data=b"secret")) == "Kept(path=None)"


# -- optional members -------------------------------------------------------------------------------------------------


def _of_class(name: str) -> Any:
    return type("MyStore", (), {"open": MemoryStore.open, name: 8})()


def _of_instance(name: str) -> Any:
    return type("MyStore", (), {"open": MemoryStore.open, "__init__": lambda self: setattr(self, name, 8)})()


@pytest.mark.parametrize("make", [_of_class, _of_instance])
@pytest.mark.parametrize("name", ["writer", "Writer", "writters", "n_writers", "writers_"])
def test_a_store_with_a_misspelt_writers_is_refused(name: str, make: Callable[[str], Store]) -> None:
    with pytest.raises(ConfigurationError, match=f"the store MyStore has {name}; did you mean writers"):
        checked_store(make(name))


@pytest.mark.parametrize("make", [_of_class, _of_instance])
@pytest.mark.parametrize("name", ["write", "writes", "_writer", "threads", "written"])
def test_a_store_may_have_other_names(name: str, make: Callable[[str], Store]) -> None:
    checked_store(make(name))


@pytest.mark.parametrize("count", [0, 1, 16])
def test_a_store_may_use_any_number_of_threads(count: int) -> None:
    checked_store(type("MyStore", (MemoryStore,), {"writers": count})())


@pytest.mark.parametrize(
    ("name", "meant"), [("write_al", "write_all"), ("writeAll", "write_all"), ("takn", "taken"), ("take", "taken")]
)
def test_a_sink_with_a_misspelt_member_is_reported_once_and_used(name: str, meant: str) -> None:
    sink = type("MySink", (MemorySink,), {name: lambda _: None})(NAME)
    with pytest.warns(UserWarning, match=f"the sink MySink has {name}; did you mean {meant}"):
        write_all(sink, [png()[:9]])
    write_all(sink, [png()[9:]])
    assert sink.commit(FACTS).data == png()


@pytest.mark.parametrize("kept_by", [memory, local])
def test_the_sinks_of_the_library_have_no_misspelt_member(
    kept_by: Callable[[Path], tuple[Store, Read]], tmp_path: Path
) -> None:
    store, read = kept_by(tmp_path)
    sink = checked_store(store).open(NAME)
    write_all(sink, [png()])
    assert read(sink.commit(FACTS)) == png()
