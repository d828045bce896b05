from __future__ import annotations

import asyncio
import gc
import os
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.batch.sources.feed import Feed, aside
from imagen_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "imagen-rows"]


async def gone() -> None:
    """Wait until every reader has ended."""
    for thread in readers():
        await asyncio.to_thread(thread.join)


async def taken(feed: Feed[int], most: int = 128) -> list[int]:
    return [row async for group in feed.groups(most) for row in group]


def counting(limit: int, read: list[int]) -> Callable[[], Iterator[int]]:
    def rows() -> Iterator[int]:
        for number in range(limit):
            read.append(number)
            yield number

    return rows


@given(rows=st.integers(0, 60), ahead=st.integers(1, 9), most=st.integers(1, 20))
def test_every_row_comes_once_and_in_order_whatever_the_sizes(rows: int, ahead: int, most: int) -> None:
    async def groups() -> list[list[int]]:
        return [group async for group in Feed(lambda: iter(range(rows)), ahead=ahead).groups(most)]

    found = asyncio.run(groups())
    assert [row for group in found for row in group] == list(range(rows))
    assert all(1 <= len(group) <= min(most, ahead) for group in found)


async def test_the_reader_is_gone_once_the_source_is_finished() -> None:
    feed = Feed(lambda: iter([1, 2, 3]))
    assert await taken(feed) == [1, 2, 3]
    await gone()
    assert readers() == []


async def test_an_error_passes_after_the_rows_before_it() -> None:
    def rows() -> Iterator[int]:
        yield from (1, 2)
        raise ConfigurationError("the file was changed")

    found: list[int] = []
    with pytest.raises(ConfigurationError, match="was changed"):
        async for group in Feed(rows).groups(1):
            found += group
    assert found == [1, 2]
    await gone()


async def test_an_error_on_opening_passes() -> None:
    def closed() -> Iterator[int]:
        raise ConfigurationError("it can be read only once")

    with pytest.raises(ConfigurationError, match="only once"):
        await taken(Feed(closed))


@pytest.mark.parametrize("ahead", [1, 8])
async def test_the_reader_is_never_more_than_so_many_rows_ahead(ahead: int) -> None:
    read: list[int] = []
    feed = Feed(counting(1000, read), ahead=ahead)
    groups = feed.groups(3)
    for _ in range(20):
        had = len(read)
        group = await anext(groups)
        assert len(group) <= 3
        assert len(read) <= max(had, group[-1] + 1 + ahead + 1)  # one more is in the reader's hands
    assert len(read) < 200
    await groups.aclose()
    await gone()


async def test_a_source_that_is_left_early_is_closed() -> None:
    closed = threading.Event()

    def rows() -> Iterator[int]:
        try:
            yield from range(1000)
        finally:
            closed.set()

    groups = Feed(rows, ahead=4).groups(2)
    assert (await anext(groups))[0] == 0
    await groups.aclose()
    await gone()
    assert closed.is_set()


async def test_a_row_is_given_as_soon_as_it_is_there() -> None:
    reading, writing = os.pipe()

    def rows() -> Iterator[str]:
        with os.fdopen(reading) as lines:
            yield from lines

    groups = Feed(rows).groups(10)
    for text in ("a\n", "b\n"):
        os.write(writing, text.encode())
        assert await anext(groups) == [text]
    waiting = asyncio.ensure_future(anext(groups))
    await asyncio.sleep(0)
    assert not waiting.done()
    os.close(writing)
    with pytest.raises(StopAsyncIteration):
        await waiting
    await gone()
    assert readers() == []


async def test_a_reader_that_waits_for_a_pipe_ends_with_the_next_row() -> None:
    reading, writing = os.pipe()

    def rows() -> Iterator[str]:
        with os.fdopen(reading) as lines:
            yield from lines

    groups = Feed(rows).groups(10)
    os.write(writing, b"a\n")
    assert await anext(groups) == ["a\n"]
    await groups.aclose()
    [thread] = readers()
    assert thread.daemon  # until then it keeps no program from ending
    os.write(writing, b"b\n")
    await gone()
    assert readers() == []
    gc.collect()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"c\n")
    os.close(writing)


async def test_waiting_for_a_row_leaves_the_loop_free() -> None:
    go_on = threading.Event()

    def rows() -> Iterator[int]:
        go_on.wait()
        yield 1

    groups = Feed(rows).groups(1)
    waiting = asyncio.ensure_future(anext(groups))
    turns = 0
    for _ in range(100):
        await asyncio.sleep(0)
        turns += 1
    assert (turns, waiting.done()) == (100, False)
    go_on.set()
    assert await waiting == [1]
    await groups.aclose()
    await gone()


def test_a_reader_outlives_its_loop_without_a_word() -> None:
    go_on = threading.Event()

    def rows() -> Iterator[int]:
        yield 1
        go_on.wait()
        yield from range(2000)

    async def first() -> list[int]:
        groups = Feed(rows).groups(1)
        try:
            return await anext(groups)
        finally:
            await groups.aclose()

    assert asyncio.run(first()) == [1]
    [thread] = readers()
    go_on.set()
    thread.join()


async def test_work_aside_gives_its_result_or_its_error() -> None:
    assert await aside(lambda: 7) == 7
    with pytest.raises(ConfigurationError, match="gone"):
        await aside(lambda: (_ for _ in ()).throw(ConfigurationError("gone")))


@pytest.mark.parametrize("closed", [False, True])
async def test_work_aside_ends_without_effect_after_its_caller_was_cancelled(*, closed: bool) -> None:
    let, done = threading.Event(), threading.Event()

    def work() -> None:
        let.wait(30)
        done.set()

    async def impatient() -> threading.Thread:
        waiting = asyncio.ensure_future(aside(work))
        await asyncio.sleep(0)
        [thread] = [thread for thread in threading.enumerate() if thread.name == "imagen-input"]
        waiting.cancel()
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        return thread

    thread = await (asyncio.to_thread(asyncio.run, impatient()) if closed else impatient())
    assert not done.is_set()
    let.set()
    await asyncio.to_thread(thread.join)
    await asyncio.sleep(0)
    assert done.is_set()
