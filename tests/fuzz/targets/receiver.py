"""From a response's bytes to images in a store: every chunking keeps the same, complete images.

The receiver is driven by hand, with a store that is worth no thread, so that a run costs no loop either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar, cast
from unittest.mock import patch

import attrs

from imagen_async.exceptions import ProtocolError
from imagen_async.receiver import gate
from imagen_async.receiver.caps import Caps
from imagen_async.wire.image import Inspector
from tests.fuzz.cutting import ways
from tests.fuzz.targets import decoder
from tests.receiving import ScriptedBody, receiving
from tests.spying import SpyStore
from tests.wire.oracles import verdict_of_oracle

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence

__all__ = ["LONGEST", "WORDS", "check"]

LONGEST = 4096
WORDS = (*decoder.WORDS, b"iVBORw0KGgo", b"/9j/", b"UklGR", b"SUVORK5CYII=")

_T = TypeVar("_T")
_ASKED = 3
_SMALL = Caps(max_image_bytes=256, max_pixels=1024)


@attrs.frozen
class _Kept:
    """What came of a body: the images, the check that it failed, and the first item whose image is bad."""

    images: list[bytes]
    broken: str | None
    faulty: int | None


class _Store(SpyStore):
    writers = 0


def check(body: bytes) -> None:
    """Receive `body` in any chunking, and check that the images of the whole body are kept."""
    every = [_driven(_received(chunks, Caps(), 1)) for chunks in ways(body)]
    every += [_driven(_received([*map(bytearray, chunks)], Caps(), 1)) for chunks in ways(body)]
    every.append(_driven(_received([body], Caps(), 2**19)))
    assert all(kept == every[0] for kept in every), every
    # Which of a bomb's faults is met first depends on how it comes, and with it what is salvaged beside it.
    for kept in (every[0], *(_driven(_received(chunks, _SMALL, 1)) for chunks in ways(body))):
        for image in kept.images:
            _look_at(image)
        if kept.broken is None and kept.faulty is None:
            assert kept.images == [image for image in verdict_of_oracle(body) or () if image is not None]


async def _received(chunks: Sequence[bytes | bytearray], caps: Caps, together: int) -> _Kept:
    store = _Store()
    with patch.object(gate, "_SPAN_OUTSIDE", together):
        async with receiving(store, n=_ASKED, caps=caps) as receiver:
            await receiver.receive(ScriptedBody(iter(chunks), here=True))
    fault, images = receiver.fault, receiver.images
    whole = receiver.document is not None
    broken = None if whole or not isinstance(fault, ProtocolError) else fault.check
    faulty = fault.item if whole and isinstance(fault, ProtocolError) else None
    assert store.open_sinks == 0
    assert len(images) == len(store.committed) <= _ASKED
    return _Kept(store.committed, broken, faulty)


def _look_at(image: bytes) -> None:
    inspector = Inspector()
    inspector.feed(image)
    assert inspector.finish().size == len(image)


def _driven(work: Coroutine[Any, Any, _T]) -> _T:
    try:
        work.send(None)
    except StopIteration as end:
        return cast("_T", end.value)
    raise AssertionError("nothing here waits")
