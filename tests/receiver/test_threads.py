from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import pytest

from imagen_async.receiver.threads import WriterThreads
from tests.clock import settle, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture
async def writers() -> AsyncIterator[WriterThreads]:
    writers = WriterThreads(2)
    yield writers
    writers.close()


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("imagen-writer")]


class Gate:
    """Work that stays in its thread until it is let go."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun = threading.Event()
        self.opened = threading.Event()
        self.ended = False
        self._error = error

    def __call__(self) -> str:
        self.begun.set()
        self.opened.wait(30)
        self.ended = True
        if self._error is not None:
            raise self._error
        return "done"


async def test_work_is_done_in_a_writer_thread_and_its_result_comes_back(writers: WriterThreads) -> None:
    def work(number: int, *, more: int) -> tuple[str, int]:
        return threading.current_thread().name, number + more

    name, total = await writers.run(work, 1, more=2)
    assert name.startswith("imagen-writer")
    assert total == 3


async def test_what_the_work_raises_comes_back(writers: WriterThreads) -> None:
    with pytest.raises(ZeroDivisionError):
        await writers.run(lambda: 1 // 0)


async def test_the_loop_is_free_while_a_thread_works(writers: WriterThreads) -> None:
    gate = Gate()
    task = asyncio.ensure_future(writers.run(gate))
    await until(gate.begun.is_set)
    assert not task.done()
    gate.opened.set()
    assert await task == "done"


@pytest.mark.parametrize("cancellations", [1, 3])
@pytest.mark.parametrize("error", [None, OSError("disk full")])
async def test_a_cancellation_arrives_only_when_the_work_has_ended(
    writers: WriterThreads, cancellations: int, error: Exception | None
) -> None:
    gate = Gate(error)
    task = asyncio.ensure_future(writers.run(gate))
    await until(gate.begun.is_set)
    for _ in range(cancellations):
        task.cancel()
        await settle()
    assert not task.done()
    gate.opened.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert gate.ended


async def test_work_that_waits_for_a_thread_is_waited_for_as_well(writers: WriterThreads) -> None:
    gates = [Gate(), Gate(), Gate()]
    tasks = [asyncio.ensure_future(writers.run(gate)) for gate in gates]
    await until(lambda: sum(gate.begun.is_set() for gate in gates) == 2)
    tasks[2].cancel()
    await settle()
    for gate in gates:
        gate.opened.set()
    await asyncio.wait(tasks)
    assert [task.cancelled() for task in tasks] == [False, False, True]
    assert gates[2].ended is gates[2].begun.is_set()


async def test_no_more_threads_work_than_there_are_writers(writers: WriterThreads) -> None:
    busy: set[str] = set()

    def work() -> None:
        busy.add(threading.current_thread().name)
        time.sleep(0.0005)

    await asyncio.gather(*(writers.run(work) for _ in range(20)))
    assert len(busy) <= 2


async def test_threads_begin_with_the_first_work_and_end_with_close() -> None:
    before = writer_threads()
    writers = WriterThreads(2)
    assert writer_threads() == before
    await writers.run(int)
    assert len(writer_threads()) > len(before)
    writers.close()
    assert set(writer_threads()) <= set(before)
    writers.close()
    assert repr(writers) == "<WriterThreads: 2 threads>"


@pytest.mark.parametrize(
    ("fixed", "asked", "threads"),
    [(None, [0], 1), (None, [4, 2], 4), (None, [2, 16], 16), (3, [16], 3), (3, [2], 3)],
)
async def test_threads_become_as_many_as_the_greediest_store_asks_for_unless_their_number_is_fixed(
    fixed: int | None, asked: list[int], threads: int
) -> None:
    before = set(writer_threads())
    writers = WriterThreads(fixed)
    for count in asked:
        writers.widen(count)
        await writers.run(int)
    assert len(set(writer_threads()) - before) == threads
    writers.close()
    assert set(writer_threads()) <= before


async def test_callers_whose_work_ended_at_once_go_on_a_few_in_each_turn_of_the_loop() -> None:
    writers, last = WriterThreads(1), threading.Event()
    work = [asyncio.ensure_future(writers.run(lambda: None)) for _ in range(9)]
    work.append(asyncio.ensure_future(writers.run(last.set)))
    await asyncio.sleep(0)
    last.wait(30)
    turns = []
    while not all(each.done() for each in work):
        before = sum(each.done() for each in work)
        await asyncio.sleep(0)
        turns.append(sum(each.done() for each in work) - before)
    writers.close()
    assert max(turns) <= 2
