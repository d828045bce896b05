from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
from multidict import CIMultiDict

from imagen_async.attempts import Attempts, Job, Unwitnessed, stops_everything
from imagen_async.exceptions import (
    AuthenticationError,
    ConnectError,
    DisconnectedError,
    FilteredError,
    ImagenError,
    JournalError,
    JournalLockedError,
    LimitReachedError,
    ModelNotFoundError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RejectedError,
    StoreError,
)
from imagen_async.failure import Attempt, FailureClass
from imagen_async.outcome import Outcome, Status
from imagen_async.pacing.backoff import RetryPolicy
from imagen_async.receive import Caps
from imagen_async.request import ImageRequest
from imagen_async.slots import Slots
from imagen_async.writers import Writers
from tests.clock import FakeClock, settle
from tests.pictures import png
from tests.servers import body_of
from tests.spying import SpyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imagen_async.transport import Transport

GOOD = body_of(png())


def _without_case(headers: Mapping[str, str]) -> Mapping[str, str]:
    return CIMultiDict(headers)


@attrs.define(eq=False)
class Said:
    """One answer of the fake transport; `gate` holds its body back."""

    status: int = 200
    headers: Mapping[str, str] = attrs.field(factory=dict, converter=_without_case)
    body: bytes = GOOD
    breaks: ImagenError | None = None
    gate: asyncio.Event | None = None

    given: bool = False

    async def read(self) -> bytes:
        if self.gate is not None:
            await self.gate.wait()
        self.given = not self.given
        if not self.given and self.breaks is not None:
            raise self.breaks
        return self.body if self.given else b""

    def read_at_once(self, size: int) -> None:
        """Take no notice of it: there is one chunk."""

    async def head(self, limit: int) -> bytes:
        return self.body[:limit]


def refusal(status: int, body: bytes = b"", **headers: str) -> Said:
    return Said(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


@attrs.define(eq=False)
class Script:
    """A transport that says what it is told to, and then only good answers; and all that belongs to it."""

    said: list[Said | ImagenError]
    clock: FakeClock
    policy: RetryPolicy = attrs.field(factory=RetryPolicy)
    size: int = 4
    max_reading: int = 4
    draw: float = 0.5
    bodies: list[bytes] = attrs.field(factory=list)
    keys: list[str] = attrs.field(factory=list)
    at: list[float] = attrs.field(factory=list)
    store: SpyStore = attrs.field(factory=SpyStore)
    slots: Slots = attrs.field(init=False)
    free_while_asleep: list[int] = attrs.field(factory=list)

    @asynccontextmanager
    async def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> AsyncIterator[Said]:
        assert path == "/images/generations"
        self.bodies.append(body)
        self.keys.append(headers["Idempotency-Key"])
        self.at.append(self.clock.now)
        said = self.said.pop(0) if self.said else Said()
        await asyncio.sleep(0)
        if isinstance(said, ImagenError):
            raise said
        yield said

    @asynccontextmanager
    async def attempts(self) -> AsyncIterator[Attempts]:
        self.slots = Slots(self.size, clock=self.clock.clock, sleep=self.clock.sleep)
        writers = Writers(1)
        try:
            yield Attempts(
                cast("Transport", self),
                self.slots,
                writers,
                policy=self.policy,
                caps=Caps(),
                max_reading=self.max_reading,
                clock=self.clock.clock,
                wall_clock=self.clock.wall_clock,
                sleep=self._backoff,
                draw=lambda: self.draw,
            )
        finally:
            writers.close()
        assert self.slots.in_flight == 0

    async def _backoff(self, seconds: float) -> None:
        self.free_while_asleep.append(self.slots.size - self.slots.in_flight)
        await self.clock.sleep(seconds)

    def job(self, prompt: str = "a fox", *, n: int = 1, **fields: Any) -> Job:
        request = ImageRequest(prompt, n=n)
        fields = {"image_id": "fox", "idempotency_key": f"key of {prompt}", **fields}
        return Job(request=request, body=prompt.encode(), store=self.store, **fields)

    async def run(self, **fields: Any) -> Outcome:
        async with self.attempts() as attempts:
            return await attempts.run(self.job(**fields))

    async def failure(self, **fields: Any) -> ImagenError:
        with pytest.raises(ImagenError) as caught:
            await self.run(**fields)
        return caught.value

    async def outcome(self, **fields: Any) -> Outcome:
        async with self.attempts() as attempts:
            return await attempts.outcome(self.job(**fields))


async def test_a_good_answer_is_an_outcome(clock: FakeClock) -> None:
    said = Said(headers={"X-Request-Id": "r-1"}, body=body_of(png(), png(), created=42))
    script = Script([said], clock)
    outcome = await script.run(n=2, notes=("odd",))
    assert (outcome.status, outcome.created, outcome.request_id) == (Status.SUCCEEDED, 42, "r-1")
    assert (outcome.notes, outcome.attempts, outcome.error) == (("odd",), (), None)
    assert [image.path for image in outcome.images] == ["fox-0", "fox-1"]


async def test_fewer_images_than_asked_are_a_partial_outcome(clock: FakeClock) -> None:
    outcome = await Script([Said(body=body_of(png()))], clock).run(n=3)
    assert (outcome.status, len(outcome.images)) == (Status.PARTIAL, 1)


async def test_no_images_at_all_are_the_safety_filter_s_doing_and_not_asked_for_again(clock: FakeClock) -> None:
    item = b'{"raiFilteredReason": "Support codes: 39322892"}'
    body = b'{"data": [' + item + b"," + item + b"]}"
    script = Script([Said(body=body, headers={"x-request-id": "r-2"})], clock)
    error = await script.failure(n=2)
    assert isinstance(error, FilteredError)
    assert str(error).count("39322892") == 1
    assert error.request_id == "r-2"
    assert len(script.bodies) == 1


@pytest.mark.parametrize(
    ("said", "kind", "tries"),
    [
        (refusal(400), RejectedError, 1),
        (refusal(404), RejectedError, 1),
        (refusal(413), RejectedError, 1),
        (refusal(422), RejectedError, 1),
        (refusal(301), RejectedError, 1),
        (refusal(401), AuthenticationError, 1),
        (refusal(403), PermissionDeniedError, 1),
        (refusal(402), PermissionDeniedError, 1),
        (refusal(503, b'{"error":{"code":"model_not_found"}}'), ModelNotFoundError, 1),
        (refusal(429, b'{"error":{"code":"insufficient_quota"}}'), PermissionDeniedError, 1),
        (refusal(408), OverloadedError, 3),
        (refusal(500), OverloadedError, 3),
        (refusal(502, b"<html>"), OverloadedError, 3),
        (refusal(503), OverloadedError, 3),
        (refusal(504), OverloadedError, 3),
        (refusal(524), OverloadedError, 3),
        (refusal(400, x_should_retry="true"), RejectedError, 3),
        (refusal(500, x_should_retry="false"), OverloadedError, 1),
        (refusal(429, x_should_retry="false"), RateLimitError, 1),
        (refusal(401, x_should_retry="true"), AuthenticationError, 1),
        (Said(body=b"<html>"), ProtocolError, 3),
        (ConnectError("refused"), ConnectError, 3),
        (DisconnectedError("cut", sent=True), DisconnectedError, 3),
    ],
)
async def test_each_failure_is_tried_as_often_as_its_class_allows(
    said: Said | ImagenError, kind: type[ImagenError], tries: int, clock: FakeClock
) -> None:
    script = Script([said] * 9, clock, policy=RetryPolicy(max_attempts=3))
    error = await script.failure()
    assert type(error) is kind
    assert len(script.bodies) == tries
    assert [attempt.number for attempt in error.attempts] == list(range(1, tries + 1))


async def test_every_attempt_has_the_same_key_and_the_same_bytes(clock: FakeClock) -> None:
    script = Script([refusal(500), refusal(429), DisconnectedError("cut", sent=True), ConnectError("no")], clock)
    assert (await script.run()).status is Status.SUCCEEDED
    assert script.bodies == [b"a fox"] * 5
    assert script.keys == ["key of a fox"] * 5


async def test_no_slot_is_held_while_a_job_backs_off(clock: FakeClock) -> None:
    script = Script([refusal(500), refusal(429, Retry_After="7"), ConnectError("no")], clock, size=1)
    await script.run()
    assert script.free_while_asleep == [1, 1, 1]


async def test_the_wait_is_jittered_over_a_ceiling_that_doubles(clock: FakeClock) -> None:
    script = Script([refusal(500)] * 4, clock, draw=1.0)
    await script.run()
    assert clock.slept == [0.5, 1.0, 2.0, 4.0]


WAITS = [
    ({"Retry_After": "7"}, 7.0),
    ({"Retry_After": "1.5"}, 1.5),
    ({"Retry_After": "Wed, 21 Oct 2026 07:28:30 GMT", "Date": "Wed, 21 Oct 2026 07:28:00 GMT"}, 30.0),
    ({"retry_after_ms": "250"}, 0.25),
    ({"retry_after_ms": "250", "Retry_After": "9"}, 0.25),
]


@pytest.mark.parametrize(("headers", "seconds"), WAITS)
async def test_nothing_of_the_whole_pool_leaves_before_the_wait_that_the_gateway_asked_for(
    headers: dict[str, str], seconds: float
) -> None:
    clock = FakeClock(moves=False)
    script = Script([refusal(429, b"", **headers)], clock, draw=0.0)
    async with script.attempts() as attempts:
        first = asyncio.ensure_future(attempts.run(script.job("first")))
        await clock.advance(0)
        others = [asyncio.ensure_future(attempts.run(script.job(f"other {n}"))) for n in range(3)]
        await clock.advance(seconds * 0.99)
        assert len(script.at) == 1
        await clock.advance(seconds * 0.01 + 1e-6)
        await asyncio.gather(first, *others)
    assert len(script.at) == 5
    assert all(at == pytest.approx(100.0 + seconds) for at in script.at[1:])


async def test_a_wait_asked_for_in_the_body_is_kept_as_well(clock: FakeClock) -> None:
    body = b'{"error":{"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"11.8s"}]}}'
    script = Script([refusal(429, body)], clock, draw=0.0)
    await script.run()
    assert script.at[1] - script.at[0] == pytest.approx(11.8)


async def test_refusals_do_not_count_as_attempts_but_time_does(clock: FakeClock) -> None:
    patient = Script([refusal(429, Retry_After="10")] * 20, clock, policy=RetryPolicy(max_attempts=2), draw=0.0)
    assert (await patient.run()).status is Status.SUCCEEDED
    policy = RetryPolicy(max_attempts=2, max_elapsed=60.0)
    error_ = await Script([refusal(429, Retry_After="10")] * 20, clock, policy=policy, draw=0.0).failure()
    assert isinstance(error_, RateLimitError)
    assert len(error_.attempts) == 6


async def test_a_wait_beyond_the_time_that_a_job_has_is_not_begun(clock: FakeClock) -> None:
    script = Script([refusal(429, Retry_After="3600")], clock, policy=RetryPolicy(max_elapsed=60.0))
    assert isinstance(await script.failure(), RateLimitError)
    assert clock.slept == []


async def test_the_last_error_surfaces_as_it_is_with_all_attempts_on_it(clock: FakeClock) -> None:
    last = DisconnectedError("cut", sent=True)
    odd = b'{"message": "oh\\u001b"}'
    said: list[Said | ImagenError] = [refusal(429, Retry_After="2"), refusal(500, odd, x_request_id="r-2"), last]
    script = Script(said, clock, policy=RetryPolicy(max_attempts=2), draw=0.0)
    caught = await script.failure()
    assert caught is last
    assert [attempt.failure for attempt in last.attempts] == [
        FailureClass.REFUSED,
        FailureClass.AMBIGUOUS,
        FailureClass.AMBIGUOUS,
    ]
    assert [attempt.request_id for attempt in last.attempts] == [None, "r-2", None]
    assert [attempt.at for attempt in last.attempts] == sorted(attempt.at for attempt in last.attempts)
    assert all(attempt.error.isprintable() for attempt in last.attempts)
    assert last.attempts[1].error.startswith("OverloadedError: oh")


@pytest.mark.parametrize(
    ("said", "status"),
    [
        ([refusal(400)], Status.FAILED),
        ([ConnectError("no")] * 3, Status.FAILED),
        ([refusal(429), refusal(400)], Status.FAILED),
        ([refusal(503, Retry_After="1"), refusal(400)], Status.FAILED),
        ([refusal(500), refusal(400)], Status.IN_DOUBT),
        ([DisconnectedError("cut", sent=True)] * 3, Status.IN_DOUBT),
        ([refusal(504), ConnectError("no"), ConnectError("no")], Status.IN_DOUBT),
        ([Said(body=b"{}")] * 3, Status.IN_DOUBT),
        ([Said(body=b'{"data":[]}')], Status.FILTERED),
        ([refusal(500), Said(body=b'{"data":[]}')], Status.FILTERED),
    ],
)
async def test_a_job_that_may_have_been_billed_is_in_doubt(
    said: list[Said | ImagenError], status: Status, clock: FakeClock
) -> None:
    outcome = await Script([*said], clock, policy=RetryPolicy(max_attempts=3)).outcome()
    assert outcome.status is status
    assert outcome.error is not None
    assert outcome.attempts == outcome.error.attempts
    assert len(outcome.attempts) == len(said)
    assert not outcome.images


async def test_an_outcome_tells_the_attempts_before_it_and_how_long_all_took(clock: FakeClock) -> None:
    outcome = await Script([refusal(500), refusal(500)], clock, draw=1.0).run()
    assert [attempt.number for attempt in outcome.attempts] == [1, 2]
    assert outcome.elapsed_s == pytest.approx(1.5)


async def test_images_of_a_body_that_broke_are_not_kept_and_come_whole_the_next_time(clock: FakeClock) -> None:
    broken = Said(body=body_of(png(), png())[:-3], breaks=DisconnectedError("cut", sent=True))
    script = Script([broken, Said(body=body_of(png(), png()))], clock)
    await script.run(n=2)
    assert script.store.committed == [png(), png()]
    assert script.store.open_sinks == 0


async def test_a_store_that_fails_is_not_tried_again(clock: FakeClock) -> None:
    script = Script([], clock, store=SpyStore(fails="write"))
    assert isinstance(await script.failure(), StoreError)
    assert len(script.bodies) == 1


async def test_a_protocol_error_carries_the_request_id(clock: FakeClock) -> None:
    script = Script([Said(body=b"{}", headers={"x-request-id": "r-7"})] * 9, clock)
    caught = await script.failure()
    assert isinstance(caught, ProtocolError)
    assert caught.request_id == "r-7"
    assert caught.attempts[0].request_id == "r-7"


@attrs.define
class Diary(Unwitnessed):
    """A witness that notes what it is told and fails where a test wants it to."""

    notes: list[str] = attrs.field(factory=list)
    fails: str = ""

    async def sending(self, attempt: int) -> None:
        self._note(f"sending {attempt}")

    async def failed(self, attempt: Attempt) -> None:
        self._note(f"failed {attempt.number} {attempt.failure}")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        if text == self.fails:
            raise JournalError("the journal broke")


async def test_a_witness_is_told_before_each_attempt_and_of_each_failure(clock: FakeClock) -> None:
    diary = Diary()
    await Script([refusal(500), refusal(429)], clock).run(witness=diary)
    assert diary.notes == ["sending 1", "failed 1 ambiguous", "sending 2", "failed 2 refused", "sending 3"]


async def test_nothing_is_sent_that_the_witness_could_not_note(clock: FakeClock) -> None:
    script = Script([refusal(500)], clock)
    caught = await script.failure(witness=Diary(fails="sending 2"))
    assert isinstance(caught, JournalError)
    assert len(script.bodies) == 1
    assert len(caught.attempts) == 1


async def test_a_failure_that_the_witness_could_not_note_ends_the_job(clock: FakeClock) -> None:
    script = Script([refusal(500)], clock)
    assert isinstance(await script.failure(witness=Diary(fails="failed 1 ambiguous")), JournalError)
    assert len(script.bodies) == 1


async def test_no_more_bodies_are_read_at_once_than_allowed(clock: FakeClock) -> None:
    gates = [asyncio.Event() for _ in range(4)]
    script = Script([Said(gate=gate) for gate in gates], clock, max_reading=2)
    async with script.attempts() as attempts:
        jobs = [asyncio.ensure_future(attempts.run(script.job(f"job {n}"))) for n in range(4)]
        await settle()
        assert len(script.bodies) == 4
        for gate in gates[2:]:
            gate.set()
        await settle()
        # The last two answers are there, but the first two are still being read.
        assert script.store.sinks == []
        for gate in gates[:2]:
            gate.set()
        await asyncio.gather(*jobs)
    assert len(script.store.committed) == 4


async def test_a_cancelled_backoff_leaves_nothing(clock: FakeClock) -> None:
    clock = FakeClock(moves=False)
    script = Script([refusal(500)], clock)
    async with script.attempts() as attempts:
        job = asyncio.ensure_future(attempts.run(script.job()))
        await settle()
        assert clock.sleeping == 1
        job.cancel()
        await settle()
        assert job.cancelled()
        assert clock.sleeping == 0


def test_key_model_quota_cap_disk_and_journal_stop_everything_and_nothing_else_does() -> None:
    stopping = [
        AuthenticationError("no", status=401),
        PermissionDeniedError("no", status=403),
        ModelNotFoundError("no", status=404),
        LimitReachedError("no"),
        StoreError("no"),
        JournalError("no"),
        JournalLockedError("no"),
    ]
    others = [
        RejectedError("no", status=400),
        RateLimitError("no", status=429),
        OverloadedError("no", status=500),
        FilteredError("no", status=200),
        ProtocolError("json", "no"),
        ConnectError("no"),
        DisconnectedError("no", sent=True),
    ]
    assert [stops_everything(error) for error in (*stopping, *others)] == [True] * 7 + [False] * 7
