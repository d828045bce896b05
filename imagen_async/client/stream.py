"""Fan-out: an async function over a source, many calls concurrently, results as they are ready or in order.

The source is read lazily, by a task of its own; at most `window` items are between the source and the consumer, so a
slow consumer slows the source. Leaving the ``async with`` early leaves no task behind. This module does not know what
the function does.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Generator, Iterable
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from imagen_async._cancellation import ended
from imagen_async.client.stop import StopScope
from imagen_async.exceptions import ConfigurationError

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["NoResult", "Stream"]

_TOGETHER = 4
"""Items of a synchronous source that are started in one turn of the loop."""
_NOT_ENTERED = (
    "a stream must be entered, so that leaving it early ends its requests; write: "
    "async with client.stream(requests) as outcomes, and inside of it: async for outcome in outcomes"
)

_In = TypeVar("_In")
_Out = TypeVar("_Out")


class NoResult(Exception):  # noqa: N818 - not an error: the item was stopped
    """Raised by a function for an item without a result; nothing stops."""


class Stream(AsyncIterator[_Out], Generic[_In, _Out]):
    """Results of `function` over `source`; iterate it inside ``async with``.

    An error that `function` raises stops the stream: nothing more is read from the source, the calls in flight are
    finished and their results returned, and then the error is raised. Only `NoResult` stops nothing.

    Args:
        function: Called with each item.
        source: Items, from an iterable or an async iterable; read lazily, never faster than results are consumed.
        window: Most items between source and consumer.
        ordered: Whether results come in the order of the source.
        stop: Stops the stream, and is stopped by it; by default a scope of its own.
        immediate: Returns the result of an item that needs no waiting, or None; an item that it answers costs a tenth
            of one that gets a task.
    """

    def __init__(
        self,
        function: Callable[[_In], Coroutine[Any, Any, _Out]],
        source: Iterable[_In] | AsyncIterable[_In],
        *,
        window: int,
        ordered: bool = False,
        stop: StopScope | None = None,
        immediate: Callable[[_In], _Out | None] | None = None,
    ) -> None:
        self._function = function
        self._source = source
        self._ordered = ordered
        self._immediate = immediate
        self._room = asyncio.Semaphore(window)
        self._tasks: set[asyncio.Task[_Out]] = set()
        self._results: deque[asyncio.Future[_Out]] = deque()
        """Results that are not consumed, in the order of the consumer; if ordered, also those that are not ready."""
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._reader: asyncio.Task[None] | None = None
        self._source_error: BaseException | None = None
        self._raised = False
        self._closed = False
        self._stop = StopScope() if stop is None else stop
        self._stop.subscribe(self._on_stop)

    def __repr__(self) -> str:
        ready = sum(result.done() for result in self._results)
        return f"<Stream {len(self._tasks)} in flight, {ready} ready>"

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._reader = self._loop.create_task(self._read(), name="imagen-stream-reader")
        # Not by the task itself: one that is cancelled before its first step never runs.
        self._reader.add_done_callback(lambda _: self._wake.set())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __aiter__(self) -> Self:
        if self._reader is None:
            raise ConfigurationError(_NOT_ENTERED)
        return self

    async def __anext__(self) -> _Out:
        """Return the next result.

        Raises:
            StopAsyncIteration: The source is exhausted and every result was returned.
            ConfigurationError: The stream was not entered.
            Exception: What stopped the stream, once, after all results that were in flight.
        """
        if self._reader is None:
            raise ConfigurationError(_NOT_ENTERED)
        while True:
            if self._results and self._results[0].done():
                result = self._results.popleft()
                self._room.release()
                if _error_of(result) is None:
                    return result.result()
            elif self._reader.done() and not self._tasks and not self._results:
                failure = self._stop.cause or self._source_error
                if failure is None or self._raised:
                    raise StopAsyncIteration
                self._raised = True
                raise failure
            else:
                self._wake.clear()
                await self._wake.wait()

    def drain(self) -> None:
        """Read nothing more from the source; the calls in flight are finished and their results returned."""
        self._stop.stop()

    async def aclose(self) -> None:
        """Cancel every call in flight and wait until all have ended, even if this call is cancelled meanwhile."""
        self._closed = True
        tasks: list[asyncio.Task[object]] = [*self._tasks]
        if self._reader is not None and not self._reader.done():
            tasks.append(self._reader)
        for task in tasks:
            task.cancel()
        cancelled = await ended(*tasks) if tasks else None
        calls: tuple[asyncio.Future[object], ...] = (*tasks, *self._results)  # type: ignore[arg-type] # of any result
        for call in calls:
            if not call.cancelled():
                call.exception()  # retrieved: no consumer is left
        self._results.clear()
        self._wake.set()  # another task may be waiting for a result
        if cancelled is not None:
            raise cancelled

    close = aclose

    def _on_stop(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.cancel()
        self._wake.set()

    async def _read(self) -> None:
        """Start a task for each item of the source while there is room."""
        try:
            if isinstance(self._source, AsyncIterable):
                await self._read_async(self._source)
            else:
                await self._read_sync(self._source)
        except asyncio.CancelledError:
            if not self._stop.stopped:
                raise
        except Exception as error:  # noqa: BLE001 - the source is foreign code; its error is raised to the consumer
            self._source_error = error

    async def _read_async(self, source: AsyncIterable[_In]) -> None:
        items = aiter(source)
        try:
            # A source may swallow the cancellation; no further item is requested even then.
            while not self._over:
                await self._room.acquire()
                try:
                    item = await anext(items)
                except StopAsyncIteration:
                    return
                if not self._over:
                    self._start(item)
        finally:
            close = getattr(items, "aclose", None)
            if close is not None:
                await close()

    async def _read_sync(self, source: Iterable[_In]) -> None:
        items = iter(source)
        nothing = object()
        started = 0
        try:
            while True:
                if self._room.locked():
                    started = 0
                await self._room.acquire()
                item = next(items, nothing)
                if item is nothing:
                    return
                self._start(item)  # type: ignore[arg-type] # it is not `nothing`
                started += 1
                if started == _TOGETHER:
                    # A source that never waits must not keep the loop from everything else.
                    started = 0
                    await asyncio.sleep(0)
        finally:
            if isinstance(items, Generator):
                items.close()

    @property
    def _over(self) -> bool:
        return self._closed or self._stop.stopped

    def _start(self, item: _In) -> None:
        result = None if self._immediate is None else self._immediate(item)
        if result is not None:
            ready: asyncio.Future[_Out] = self._loop.create_future()
            ready.set_result(result)
            self._results.append(ready)
            self._wake.set()
            return
        task = self._loop.create_task(self._function(item))
        self._tasks.add(task)
        task.add_done_callback(self._end)
        if self._ordered:
            self._results.append(task)

    def _end(self, task: asyncio.Task[_Out]) -> None:
        self._tasks.discard(task)
        if self._closed:
            return
        if not self._ordered:
            self._results.append(task)
        error = _error_of(task)
        if error is not None and not isinstance(error, NoResult):
            self._stop.stop(error)
        self._wake.set()


def _error_of(task: asyncio.Future[Any]) -> BaseException | None:
    return asyncio.CancelledError() if task.cancelled() else task.exception()
