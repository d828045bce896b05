from __future__ import annotations

import asyncio
import os
import signal

from imagen_async.cli.signals import SIGNALS, Interruption, listening


def test_every_signal_after_the_third_leaves_and_the_first_one_is_remembered() -> None:
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


async def test_signals_are_heard_by_the_loop_and_later_do_what_they_did() -> None:
    before = [signal.getsignal(number) for number in SIGNALS]
    heard: asyncio.Queue[int] = asyncio.Queue()
    with listening(heard.put_nowait):
        for number in SIGNALS:
            os.kill(os.getpid(), number)
            assert await heard.get() == number
    assert [signal.getsignal(number) for number in SIGNALS] == before


async def test_outside_the_main_thread_nothing_is_heard_and_nothing_breaks() -> None:
    async def quiet() -> bool:
        with listening(lambda _: None):
            return True

    assert await asyncio.to_thread(lambda: asyncio.run(quiet()))
