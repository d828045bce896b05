from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagen_async.exceptions import StoreError
from imagen_async.stores.memory import MemorySink, MemoryStore
from imagen_async.stores.store import ImageName
from imagen_async.wire.image import Facts

if TYPE_CHECKING:
    from collections.abc import Callable

FACTS = Facts("png", 2, 2, 3)


def test_the_image_is_returned_as_bytes_without_a_path() -> None:
    sink = MemoryStore().open(ImageName("fox", 0))
    sink.write(b"ab")
    sink.write(memoryview(b"c"))
    kept = sink.commit(FACTS)
    assert (kept.data, kept.path) == (b"abc", None)


@pytest.mark.parametrize("end", [lambda sink: sink.commit(FACTS), lambda sink: sink.discard()])
def test_an_ended_sink_accepts_no_bytes(end: Callable[[MemorySink], object]) -> None:
    sink = MemoryStore().open(ImageName("fox", 2))
    end(sink)
    with pytest.raises(StoreError, match="image 2"):
        sink.write(b"x")
    with pytest.raises(StoreError, match="image 2"):
        sink.commit(FACTS)


def test_the_repr_names_the_store() -> None:
    assert repr(MemoryStore()) == "MemoryStore()"
