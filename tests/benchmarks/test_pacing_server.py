from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.pacing.limits import AnyNumber, AtOnce, Schedule
from benchmarks.pacing.rows import Row
from benchmarks.pacing.server import Answer, Conversation, Gateway

REQUEST = b'POST /v1/images/generations HTTP/1.1\r\nHost: here\r\nContent-Length: 14\r\n\r\n{"prompt":"a"}'


@attrs.define
class Bench:
    """A gateway on a clock that the test moves; its latencies are 0.4 s sharp."""

    row: Row
    now: float = 100.0
    due: list[tuple[float, int, Callable[[], None]]] = attrs.field(factory=list)
    answers: list[bytes] = attrs.field(factory=list)
    gateway: Gateway = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        order = itertools.count()

        def later(seconds: float, call: Callable[[], None]) -> None:
            heapq.heappush(self.due, (self.now + seconds, next(order), call))

        self.gateway = Gateway(self.row, clock=lambda: self.now, later=later, draw=lambda: 0.5)

    def ask(self, *, after: float = 0.0, times: int = 1) -> None:
        until = self.now + after
        while self.due and self.due[0][0] <= until:
            self.now, _, call = heapq.heappop(self.due)
            call()
        self.now = until
        for _ in range(times):
            self.gateway.asked(self.answers.append)


def row(limit: float, **changes: Any) -> Row:
    return attrs.evolve(Row(name="a", title="a", way=AtOnce, limit=Schedule.steady(limit)), **changes)


def test_a_request_beyond_the_limit_is_refused_immediately_and_counted() -> None:
    bench = Bench(row(2))
    bench.ask(times=3)
    counted = bench.gateway.counted()
    assert (counted.accepted, counted.refused, counted.most) == (2, 1, 2)
    assert [answer.split(b" ", 2)[1] for answer in bench.answers] == [b"429"]


def test_an_accepted_request_is_answered_after_its_latency_and_makes_room() -> None:
    bench = Bench(row(1))
    bench.ask()
    bench.ask(after=0.39)
    bench.ask(after=0.02)
    assert bench.gateway.counted().accepted == 2
    assert [answer.split(b" ", 2)[1] for answer in bench.answers] == [b"429", b"200"]


def test_seconds_count_from_the_first_request() -> None:
    bench = Bench(row(2))
    bench.ask(times=3)
    bench.ask(after=1.5, times=3)
    counted = bench.gateway.counted()
    assert (counted.accepted_by_second, counted.refused_by_second, counted.most_after) == ("2 2", "1 1", 0.0)


@pytest.mark.parametrize(
    ("after", "early"),
    [(0.0, 0), (0.04, 0), (0.06, 1), (0.99, 1), (1.0, 0), (1.5, 0)],
    ids=["with it", "on the way", "knowingly", "just before its end", "at its end", "after it"],
)
def test_a_request_is_early_between_a_round_trip_and_the_end_of_the_wait(after: float, early: int) -> None:
    bench = Bench(row(0, retry_after=1))
    bench.ask()
    bench.ask(after=after)
    assert bench.gateway.counted().early == early


def test_a_new_wait_does_not_hide_an_older_one() -> None:
    bench = Bench(row(0, retry_after=1))
    for _ in range(20):
        bench.ask(after=0.04)
    assert bench.gateway.counted().early == 18


def test_nothing_is_early_where_no_wait_was_named() -> None:
    bench = Bench(row(0))
    bench.ask()
    bench.ask(after=0.5)
    assert bench.gateway.counted().early == 0
    assert b"Retry-After" not in bench.answers[0]


def test_the_wait_is_named_in_the_refusal() -> None:
    bench = Bench(row(0, retry_after=1))
    bench.ask()
    assert b"\r\nRetry-After: 1\r\n" in bench.answers[0]


def test_some_are_refused_at_random_whatever_the_limit() -> None:
    bench = Bench(row(9, way=AnyNumber, at_random=0.6))
    bench.ask()
    assert bench.gateway.counted().refused == 1


@given(st.lists(st.integers(0, 3 * len(REQUEST)), max_size=8))
def test_requests_are_separated_however_they_are_cut(cuts: list[int]) -> None:
    asked: list[Answer] = []
    conversation, sent = Conversation(asked.append), 3 * REQUEST
    places = [0, *sorted(cuts), len(sent)]
    for start, end in itertools.pairwise(places):
        conversation.data_received(sent[start:end])
    assert len(asked) == 3


def test_a_client_that_left_is_not_written_to() -> None:
    class Closing(asyncio.Transport):
        def is_closing(self) -> bool:
            return True

        def write(self, data: bytes | bytearray | memoryview) -> None:
            raise AssertionError(bytes(data))

    asked: list[Answer] = []
    conversation = Conversation(asked.append)
    conversation.connection_made(Closing())
    conversation.data_received(REQUEST)
    asked[0](b"too late")
