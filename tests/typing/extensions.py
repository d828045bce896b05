"""Stores, pacers and callbacks as a user writes them. Not run: mypy and pyright check the types."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from typing import assert_type

from imagen_async import (
    Event,
    Facts,
    ImageName,
    ImagenClient,
    Kept,
    LocalStore,
    MemoryStore,
    Pacer,
    Permit,
    Sink,
    Store,
    Verdict,
)
from imagen_async.events import Failed, Filtered, Paused, Queued, Retry, Saved, Started, Stopped, Throttled
from imagen_async.stores import GatheringSink, ReadableSink, ThreadedStore


class CountingStore:
    """A store that fits the protocol without deriving from it."""

    def __init__(self) -> None:
        self.bytes = 0
        self.lock = threading.Lock()

    def open(self, name: ImageName, /) -> CountingSink:
        assert_type(name.id, str)
        return CountingSink(self)


class CountingSink:
    """Its sink."""

    def __init__(self, store: CountingStore) -> None:
        self.store = store

    def write(self, data: bytes | memoryview, /) -> None:
        with self.store.lock:
            self.store.bytes += len(data)

    def commit(self, facts: Facts, /) -> Kept:
        return Kept(path=f"{facts.width}x{facts.height}")

    def discard(self) -> None:
        pass


class UploadingStore(ThreadedStore):
    """A store that declares its optional member."""

    @property
    def writers(self) -> int:
        return 8

    def open(self, name: ImageName, /) -> Sink:
        return UploadingSink()


class MisspeltStore(ThreadedStore):
    """The same with a typing error."""

    @property
    def writer(self) -> int:
        return 8

    def open(self, name: ImageName, /) -> Sink:
        return UploadingSink()


class UploadingSink(CountingSink, GatheringSink, ReadableSink):
    """A sink with both optional members."""

    def __init__(self) -> None:
        super().__init__(CountingStore())

    def write_all(self, parts: Sequence[bytes], /) -> None:
        for part in parts:
            self.write(part)

    def taken(self) -> bytes:
        return b""


def stores_of_ones_own_fit() -> tuple[Store, Store, Store, Store, Sink]:
    store = CountingStore()
    MisspeltStore()  # type: ignore[abstract]
    return store, LocalStore("out"), MemoryStore(), UploadingStore(), store.open(ImageName("fox", 0))


class OneAtATime:
    """A pacer that fits the protocol without deriving from it."""

    limit = 1
    rate = math.inf
    until = 0.0

    def __init__(self) -> None:
        self.number = 0
        self.busy = False

    def allow(self, most: int) -> None:
        pass

    def take(self, *, now: float) -> Permit | float:
        if self.busy:
            return math.inf
        self.busy = True
        self.number += 1
        return Permit(self.number, now, 1, by_window=True, by_rate=False)

    def ended(self, permit: Permit, verdict: Verdict, /, *, now: float, retry_after: float | None = None) -> None:
        self.busy = False
        self.until = now + (retry_after or 0.0) if verdict is Verdict.REFUSED else self.until


def hear(event: Event) -> None:
    assert_type(event.at, float)
    match event:
        case Queued(job=job) | Started(job=job) | Failed(job=job) | Filtered(job=job):
            assert_type(job, str)
        case Retry(failed=failed, delay=delay):
            print(failed.number, delay + 1.0)
        case Saved(images=images):
            print(images[0].read())
        case Paused(seconds=seconds):
            print(seconds + 1.0)
        case Throttled(limit=limit, rate=rate):
            print(limit + rate)
        case Stopped(error=error):
            print(error.message)
        case _:
            pass


def a_client_with_all_of_them() -> ImagenClient:
    pacer: Pacer = OneAtATime()
    return ImagenClient(pacer=pacer, callbacks=[hear])
