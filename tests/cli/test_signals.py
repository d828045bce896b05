from __future__ import annotations

import asyncio
import os
import signal

from imagen_async.cli.signals import SIGNALS, Interruption, listening


def test_every_signal_after_the_third_exits_with_the_number_of_the_first() -> None:
    steps: list[tuple[str, int]] = []
    interruption = Interruption(
        drain=lambda number: steps.append(("drain", number)),
        cancel=lambda number: steps.append(("cancel", number)),
        leave=lambda number: steps.append(("leave", number)),
    )
    for number in (15, 2, 2, 15):
        interruption.arrived(number)
    assert steps == [("drain", 15), ("cancel", 2), ("leave", 2), ("leave", 15)]
    assert interruption.number == 15


async def test_signals_reach_the_loop_and_the_handlers_are_restored() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    heard: asyncio.Queue[int] = asyncio.Queue()
    with listening(heard.put_nowait):
        for number in SIGNALS:
            os.kill(os.getpid(), number)
            assert await heard.get() == number
    assert [signal.getsignal(number) for number in SIGNALS] == before


async def test_outside_the_main_thread_there_are_no_handlers_and_no_error() -> None:
    async def quiet() -> bool:
        with listening(lambda _: None):
            return True

    assert await asyncio.to_thread(lambda: asyncio.run(quiet()))
