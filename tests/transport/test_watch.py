"""One timer for many waits: each is looked at when it said, and not one is forgotten."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagen_async.transport.watch import Watch

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable


class Timer:
    """One call that is due."""

    def __init__(self, due: float, call: Callable[[], object]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """An event loop, as far as a watch needs one."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, call: Callable[[], object]) -> Timer:
        self.timers.append(Timer(due, call))
        return self.timers[-1]

    @property
    def pending(self) -> list[Timer]:
        return [timer for timer in self.timers if not timer.cancelled]

    def advance(self, seconds: float) -> None:
        """Let time pass, and each timer ring at its own time."""
        end = self.now + seconds
        while ringing := [timer for timer in self.pending if timer.due <= end]:
            first = min(ringing, key=lambda timer: timer.due)
            self.timers.remove(first)
            self.now = max(self.now, first.due)
            first.call()
        self.now = end


class Wait:
    """One that is over at `limit`, which may be moved, and that wants to be looked at every `step` seconds."""

    def __init__(self, limit: float, *, step: float = math.inf) -> None:
        self.limit = limit
        self.step = step
        self.over_at: float | None = None
        self.looks: list[float] = []

    def look(self, now: float) -> float:
        self.looks.append(now)
        if now < self.limit:
            return min(self.limit, now + self.step)
        self.over_at = now
        return math.inf


@pytest.fixture
def loop() -> Loop:
    return Loop()


def watching(loop: Loop) -> Watch:
    return Watch(cast("asyncio.AbstractEventLoop", loop))


@given(st.data())
def test_each_wait_is_over_at_its_limit_unless_it_was_ended_before(data: st.DataObject) -> None:
    loop = Loop()
    watch = watching(loop)
    begun: list[Wait] = []
    ended: list[Wait] = []
    for _ in range(data.draw(st.integers(0, 30), label="steps")):
        step = data.draw(st.sampled_from(["begin", "end", "advance"]), label="step")
        if step == "begin":
            limit = loop.now + data.draw(st.integers(-1, 20), label="seconds")
            begun.append(Wait(limit, step=data.draw(st.integers(1, 30), label="between looks")))
            watch.begin(begun[-1])
        elif step == "end" and begun:
            ended.append(data.draw(st.sampled_from(begun), label="which"))
            if ended[-1].over_at is None:
                ended[-1].limit = math.inf
            watch.end(ended[-1])
        else:
            loop.advance(data.draw(st.integers(0, 10), label="advanced by"))
        assert len(loop.pending) <= 1
    loop.advance(100)
    for wait in begun:
        if math.isinf(wait.limit):
            assert wait.over_at is None
        else:
            assert wait.over_at == max(wait.limit, wait.looks[0])
    assert not loop.pending


def test_a_wait_whose_limit_has_moved_is_not_ended_early(loop: Loop) -> None:
    wait = Wait(105.0)
    watching(loop).begin(wait)
    wait.limit = 108.0
    loop.advance(7.9)
    assert wait.looks == [100.0, 105.0]
    assert wait.over_at is None
    loop.advance(0.1)
    assert wait.over_at == 108.0


def test_waits_that_come_and_go_cost_no_timer_each(loop: Loop) -> None:
    watch = watching(loop)
    for _ in range(1000):
        wait = Wait(loop.now + 300.0)
        watch.begin(wait)
        loop.advance(0.1)
        watch.end(wait)
    assert len(loop.timers) == 1


def test_one_without_a_limit_is_forgotten_at_once(loop: Loop) -> None:
    watch = watching(loop)
    watch.begin(Wait(math.inf))
    assert repr(watch) == "<Watch over 0 waits>"
    assert not loop.timers


def test_a_watch_over_nobody_leaves_no_timer_when_it_is_closed(loop: Loop) -> None:
    watch, wait = watching(loop), Wait(105.0)
    watch.begin(wait)
    watch.end(wait)
    assert loop.pending
    watch.close()
    watch.close()
    assert not loop.pending
    watch.begin(wait)
    loop.advance(10)
    assert wait.over_at == 105.0


def test_who_still_waits_when_it_is_closed_keeps_the_limit(loop: Loop) -> None:
    watch, wait = watching(loop), Wait(105.0)
    watch.begin(wait)
    watch.close()
    loop.advance(10)
    assert wait.over_at == 105.0


def test_what_ends_another_while_it_is_looked_at_disturbs_nobody(loop: Loop) -> None:
    watch = watching(loop)
    others = [Wait(105.0) for _ in range(3)]

    class Ending(Wait):
        def look(self, now: float) -> float:
            if now >= self.limit:
                watch.end(others[0])
                watch.begin(Wait(now + 50))
            return super().look(now)

    watch.begin(Ending(105.0))
    for other in others:
        watch.begin(other)
    loop.advance(10)
    assert [other.over_at for other in others] == [None, 105.0, 105.0]
    assert others[0].looks == [100.0]
