from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import closing
from typing import TYPE_CHECKING, TypeVar

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async import ConfigurationError
from imagen_async.client.stop import StopScope
from imagen_async.client.stream import Stream
from tests.clock import settle
from tests.profiles import times

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator

T = TypeVar("T")


@attrs.define
class Source:
    """Counts what is taken from it; both kinds of iterable."""

    items: Iterable[int]
    pulled: int = 0
    closed: bool = False
    error: Exception | None = None

    def sync(self) -> Generator[int, None, None]:
        try:
            for item in self.items:
                self.pulled += 1
                yield item
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True

    async def asynchronous(self) -> AsyncIterator[int]:
        with closing(self.sync()) as items:
            for item in items:
                await asyncio.sleep(0)
                yield item


@attrs.define
class Work:
    """Calls that end when a test says so."""

    begun: list[int] = attrs.field(factory=list)
    ended: list[int] = attrs.field(factory=list)
    cancelled: list[int] = attrs.field(factory=list)
    futures: dict[int, asyncio.Future[int]] = attrs.field(factory=dict)

    async def __call__(self, item: int) -> int:
        self.begun.append(item)
        self.futures[item] = asyncio.get_running_loop().create_future()
        try:
            return await self.futures[item]
        except asyncio.CancelledError:
            self.cancelled.append(item)
            raise
        finally:
            self.ended.append(item)

    def finish(self, *items: int) -> None:
        for item in items:
            self.futures[item].set_result(item * 10)


async def double(item: int) -> int:
    await asyncio.sleep(0)
    return 2 * item


async def all_of(stream: Stream[int, T]) -> list[T]:
    async with stream as results:
        return [result async for result in results]


def other_tasks() -> set[asyncio.Task[object]]:
    return asyncio.all_tasks() - {asyncio.current_task()}


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("kind", ["sync", "asynchronous", "list"])
async def test_every_item_of_any_source_has_one_result(*, kind: str, ordered: bool) -> None:
    source = Source(range(20))
    items = list(range(20)) if kind == "list" else getattr(source, kind)()
    results = await all_of(Stream(double, items, window=3, ordered=ordered))
    assert sorted(results) == list(range(0, 40, 2))
    assert not other_tasks()


@given(st.lists(st.integers(0, 6), max_size=30), st.integers(1, 8))
@times(0.5)
def test_ordered_results_come_in_the_order_of_the_source(delays: list[int], window: int) -> None:
    async def late(place: int) -> int:
        for _ in range(delays[place]):
            await asyncio.sleep(0)
        return place

    async def main() -> list[int]:
        return await all_of(Stream(late, range(len(delays)), window=window, ordered=True))

    assert asyncio.run(main()) == list(range(len(delays)))


async def test_unordered_results_come_as_they_are_ready() -> None:
    work = Work()
    async with Stream(work, [0, 1, 2], window=3) as results:
        await settle()
        work.finish(2)
        assert await anext(results) == 20
        work.finish(0)
        assert await anext(results) == 0
        work.finish(1)
        assert await anext(results) == 10
        with pytest.raises(StopAsyncIteration):
            await anext(results)


async def test_an_ordered_result_waits_for_those_before_it() -> None:
    work = Work()
    async with Stream(work, [0, 1], window=3, ordered=True) as results:
        await settle()
        work.finish(1)
        first = asyncio.ensure_future(anext(results))
        await settle()
        assert not first.done()
        work.finish(0)
        assert await first == 0
        assert await anext(results) == 10


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
async def test_a_consumer_that_takes_nothing_stops_the_source(*, kind: str, ordered: bool) -> None:
    source = Source(range(10**9))
    async with Stream(double, getattr(source, kind)(), window=5, ordered=ordered) as results:
        for taken in range(10):
            for _ in range(5):
                await settle()
            # Nothing is read beyond what has room between source and consumer.
            assert source.pulled == taken + 5
            await anext(results)


async def test_nothing_is_read_before_the_stream_is_entered() -> None:
    source = Source(range(3))
    stream = Stream(double, source.sync(), window=5)
    await settle()
    assert source.pulled == 0
    with pytest.raises(ConfigurationError, match="async with"):
        await anext(stream)
    with pytest.raises(ConfigurationError, match=r"write: async with client\.stream.+async for outcome in outcomes"):
        async for _ in stream:
            pass
    assert source.pulled == 0


async def test_a_source_that_never_waits_leaves_the_loop_to_others() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    ticking = asyncio.ensure_future(tick())
    results = await all_of(Stream(double, range(200), window=1000))
    ticking.cancel()
    assert len(results) == 200
    assert ticks >= 200 // 4


@pytest.mark.parametrize("ordered", [False, True])
async def test_an_error_is_raised_once_after_all_that_was_under_way(*, ordered: bool) -> None:
    work, source = Work(), Source(range(100))
    async with Stream(work, source.sync(), window=4, ordered=ordered) as results:
        await settle()
        work.futures[1].set_exception(ValueError("the key is bad"))
        await settle()
        work.finish(0, 2, 3)
        seen = [await anext(results) for _ in range(3)]
        assert sorted(seen) == [0, 20, 30]
        with pytest.raises(ValueError, match="the key is bad"):
            await anext(results)
        with pytest.raises(StopAsyncIteration):
            await anext(results)
    assert source.pulled == 4
    assert not other_tasks()


async def test_of_several_errors_the_first_is_raised() -> None:
    work = Work()
    async with Stream(work, range(3), window=3) as results:
        await settle()
        work.futures[2].set_exception(ValueError("first"))
        await settle()
        work.futures[0].set_exception(KeyError("second"))
        work.finish(1)
        assert await anext(results) == 10
        with pytest.raises(ValueError, match="first"):
            await anext(results)


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
async def test_an_error_of_the_source_is_raised_after_what_it_gave(kind: str) -> None:
    source = Source(range(3), error=OSError("the file is gone"))
    seen: list[int] = []
    with pytest.raises(OSError, match="the file is gone"):
        async with Stream(double, getattr(source, kind)(), window=2) as results:
            async for result in results:
                seen.append(result)  # noqa: PERF401 - it raises on the way
    assert sorted(seen) == [0, 2, 4]
    assert not other_tasks()


async def test_a_source_that_cannot_be_iterated_is_an_error_of_the_source() -> None:
    with pytest.raises(TypeError, match="not iterable"):
        await all_of(Stream(double, 7, window=2))  # type: ignore[arg-type] # the point of the test


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
@pytest.mark.parametrize("ordered", [False, True])
async def test_leaving_early_leaves_no_task_behind(*, kind: str, ordered: bool) -> None:
    work, source = Work(), Source(range(100))
    async with Stream(work, getattr(source, kind)(), window=4, ordered=ordered) as results:
        for _ in range(3):
            await settle()
        work.finish(0)
        assert await anext(results) == 0
    assert not other_tasks()
    assert sorted(work.ended) == sorted(work.begun)
    assert set(work.cancelled) == set(work.begun) - {0}
    assert source.closed
    with pytest.raises(StopAsyncIteration):
        await anext(results)


async def test_leaving_with_an_error_of_one_s_own_raises_that_error() -> None:
    work = Work()
    with pytest.raises(KeyError, match="mine"):
        async with Stream(work, range(9), window=4):
            await settle()
            raise KeyError("mine")
    assert not other_tasks()


async def test_errors_that_nobody_takes_any_more_are_not_complained_of(caplog: pytest.LogCaptureFixture) -> None:
    work = Work()
    async with Stream(work, range(3), window=3):
        await settle()
        work.futures[0].set_exception(ValueError("nobody sees this"))
        await settle()
    await settle()
    assert caplog.records == []


async def test_a_consumer_that_is_cancelled_again_and_again_still_leaves_nothing_behind() -> None:
    slow = asyncio.Event()

    async def reluctant(item: int) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            await slow.wait()
        return item

    async def consume() -> None:
        async with Stream(reluctant, range(9), window=3) as results:
            await anext(results)

    consumer = asyncio.ensure_future(consume())
    await settle()
    for _ in range(3):
        consumer.cancel()
        await settle()
        assert not consumer.done()
    slow.set()
    with pytest.raises(asyncio.CancelledError):
        await consumer
    assert not other_tasks()


async def test_a_result_is_not_lost_when_waiting_for_it_is_given_up() -> None:
    work = Work()
    async with Stream(work, [0], window=3) as results:
        await settle()
        waiting = asyncio.ensure_future(anext(results))
        await settle()
        waiting.cancel()
        await settle()
        work.finish(0)
        assert await anext(results) == 0


@pytest.mark.parametrize("ordered", [False, True])
async def test_draining_gives_out_what_is_under_way_and_reads_nothing_more(*, ordered: bool) -> None:
    work, source, scope, told = Work(), Source(range(100)), StopScope(), []
    scope.subscribe(lambda: told.append(1))
    stream = Stream(work, source.sync(), window=4, ordered=ordered, stop=scope)
    async with stream as results:
        await settle()
        stream.drain()
        stream.drain()
        await settle()
        work.finish(0, 1, 2, 3)
        assert sorted([result async for result in results]) == [0, 10, 20, 30]
    assert source.pulled == 4
    assert told == [1]


@pytest.mark.parametrize("kind", ["sync", "asynchronous"])
async def test_a_stream_that_is_drained_before_its_source_was_asked_ends_at_once(kind: str) -> None:
    source = Source(range(3))
    stream = Stream(double, getattr(source, kind)(), window=4)
    async with stream as results:
        stream.drain()
        assert [result async for result in results] == []
    assert source.pulled == 0


async def test_failing_from_outside_stops_as_an_error_of_the_function_does() -> None:
    work = Work()
    scope = StopScope()
    stream = Stream(work, range(100), window=2, stop=scope)
    async with stream as results:
        await settle()
        scope.stop(OSError("the journal broke"))
        work.finish(0, 1)
        assert sorted([await anext(results), await anext(results)]) == [0, 10]
        with pytest.raises(OSError, match="journal"):
            await anext(results)


async def test_who_waits_for_a_result_while_somebody_else_closes_the_stream_is_told_of_the_end() -> None:
    slow = asyncio.Event()

    async def reluctant(_: int) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await slow.wait()

    async with Stream(reluctant, range(9), window=3) as results:
        waiting = asyncio.ensure_future(anext(results))
        await settle()
        closing = asyncio.ensure_future(results.aclose())
        await settle()
        slow.set()
        await closing
        with pytest.raises(StopAsyncIteration):
            await waiting


async def test_a_source_that_swallows_its_cancellation_is_asked_for_nothing_more() -> None:
    asked = 0

    async def stubborn() -> AsyncIterator[int]:
        nonlocal asked
        while asked < 1000:
            asked += 1
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                yield asked

    work = Work()
    async with Stream(work, stubborn(), window=3):
        await settle()
    assert asked == 1
    assert work.begun == []
    assert not other_tasks()


async def test_two_streams_in_one_task_group_do_not_disturb_each_other() -> None:
    async def fail(item: int) -> int:
        raise ZeroDivisionError(item)

    with pytest.raises(ZeroDivisionError):
        await all_of(Stream(fail, range(3), window=2))
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(all_of(Stream(double, range(5), window=2))) for _ in range(2)]
    assert [sorted(task.result()) for task in tasks] == [[0, 2, 4, 6, 8]] * 2


async def test_its_repr_counts_what_is_under_way() -> None:
    work = Work()
    async with Stream(work, range(9), window=4) as results:
        await settle()
        work.finish(0)
        await settle()
        assert repr(results) == "<Stream 3 in flight, 1 ready>"


@pytest.mark.parametrize("ordered", [False, True])
async def test_what_needs_no_waiting_gets_no_call_and_its_place_in_the_order(*, ordered: bool) -> None:
    called: list[int] = []

    async def call(item: int) -> int:
        called.append(item)
        return await double(item)

    stream = Stream(call, range(20), window=3, ordered=ordered, immediate=lambda item: None if item % 3 else 2 * item)
    results = await all_of(stream)
    assert called == [item for item in range(20) if item % 3]
    assert (results if ordered else sorted(results)) == list(range(0, 40, 2))


async def test_what_needs_no_waiting_is_no_further_ahead_of_the_consumer_than_all_else() -> None:
    source = Source(range(50))
    async with Stream(double, source.sync(), window=4, immediate=lambda item: item) as results:
        await settle()
        assert source.pulled == 4
        assert [await anext(results) for _ in range(10)] == list(range(10))
        await settle()
        assert source.pulled <= 14
    assert not other_tasks()
