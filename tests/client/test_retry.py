from __future__ import annotations

import asyncio
import itertools
import threading
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

import attrs
import pytest
from multidict import CIMultiDict

from imagen_async._secrets import Mask
from imagen_async.client.attempt import AttemptRunner
from imagen_async.client.job import EncodedRequest, Job, Unrecorded
from imagen_async.client.retry import JobRunner
from imagen_async.client.stop import JobStopped, stops_everything
from imagen_async.events import Event, Failed, JobEvent, Listeners, Started
from imagen_async.exceptions import (
    Attempt,
    AuthenticationError,
    ConfigurationError,
    ConnectError,
    DisconnectedError,
    EndpointNotFoundError,
    FailureClass,
    FilteredError,
    ImagenError,
    JournalError,
    JournalLockedError,
    LimitReachedError,
    ModelNotFoundError,
    OutageError,
    OverloadedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitError,
    RedirectedError,
    RejectedError,
    StoreError,
)
from imagen_async.limiter.backoff import RetryPolicy
from imagen_async.limiter.circuit import RetryQuota
from imagen_async.limiter.limiter import Limiter
from imagen_async.limiter.permit import Verdict
from imagen_async.limiter.shared import SharedLimiter
from imagen_async.outcome import Outcome, Status
from imagen_async.request import ImageRequest
from tests.clock import FakeClock, settle, until
from tests.pictures import chunk, ihdr, png
from tests.receiving import receiver_context
from tests.servers import body_of
from tests.spying import SpySink, SpyStore

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from imagen_async.stores import ImageName
    from imagen_async.transport.response import Take
    from imagen_async.transport.transport import Transport

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
    mask: Mask = attrs.field(factory=Mask)
    packed: str | None = None

    given: bool = False
    here: bool = False

    async def pump(self, take: Take) -> bool:
        if self.gate is not None:
            await self.gate.wait()
        self.given = not self.given
        if not self.given and self.breaks is not None:
            raise self.breaks
        if self.given:
            take(self.body, len(self.body))
        return self.given

    def hold(self) -> None:
        """Take no notice of it: nothing comes before it is asked for."""

    async def head(self, limit: int) -> bytes:
        return self.body[:limit]


def refusal(status: int, body: bytes = b"", **headers: str) -> Said:
    return Said(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


@attrs.define(eq=False)
class Script:
    """A transport that says what it is told to, and then only good answers; and all that belongs to it."""

    said: list[Said | ImagenError]
    clock: FakeClock
    policy: RetryPolicy = attrs.field(factory=lambda: RetryPolicy(on_ambiguous="retry"))
    size: int = 4
    max_reading: int = 4
    draw: float = 0.5
    bodies: list[bytes] = attrs.field(factory=list)
    keys: list[str] = attrs.field(factory=list)
    at: list[float] = attrs.field(factory=list)
    store: SpyStore = attrs.field(factory=SpyStore)
    limiter: Limiter = attrs.field(init=False)
    free_while_asleep: list[int] = attrs.field(factory=list)
    quota: RetryQuota | None = None
    events: list[Event] = attrs.field(factory=list)

    async def open(self) -> None:
        """Do nothing: there is no session."""

    @property
    def base_url(self) -> str:
        return "https://gateway.example/v1"

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
    async def attempts(self) -> AsyncIterator[JobRunner]:
        shared = SharedLimiter(quota=self.quota, clock=self.clock.clock, sleep=self.clock.sleep)
        self.limiter = Limiter(self.size, shared=lambda: shared, clock=self.clock.clock)
        with receiver_context(clock=self.clock, max_reading=self.max_reading) as receiving:
            attempts = AttemptRunner(
                cast("Transport", self),
                receiving,
                self.limiter,
                max_elapsed=self.policy.max_elapsed,
                listeners=Listeners([self.events.append]),
                clock=self.clock.clock,
                wall_clock=self.clock.wall_clock,
            )
            yield JobRunner(
                attempts,
                self.limiter,
                policy=self.policy,
                clock=self.clock.clock,
                sleep=self._backoff,
                draw=lambda: self.draw,
            )
        assert self.limiter.in_flight == 0

    async def _backoff(self, seconds: float) -> None:
        self.free_while_asleep.append(self.limiter.size - self.limiter.in_flight)
        await self.clock.sleep(seconds)

    def job(self, prompt: str = "a fox", *, n: int = 1, **fields: Any) -> Job:
        request = ImageRequest(prompt, n=n)
        numbers = itertools.count(1)

        def encode(images: int) -> EncodedRequest:
            return EncodedRequest(f"{images} of {prompt}".encode(), f"key {next(numbers)} of {prompt}")

        fields = {"image_id": "fox", "missing": tuple(range(n)), **fields}
        return Job(request=request, encode=encode, store=self.store, **fields)

    async def run(self, **fields: Any) -> Outcome:
        async with self.attempts() as jobs:
            return await jobs.run(self.job(**fields))

    async def failure(self, **fields: Any) -> ImagenError:
        outcome = await self.run(**fields)
        assert outcome.error is not None
        assert not outcome.images
        assert outcome.attempts == outcome.error.attempts
        return outcome.error


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
        (refusal(404), EndpointNotFoundError, 1),
        (refusal(413), RejectedError, 1),
        (refusal(422), RejectedError, 1),
        (refusal(301), RedirectedError, 1),
        (refusal(202), ProtocolError, 3),
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
    script = Script([said] * 9, clock, policy=RetryPolicy(on_ambiguous="retry", max_attempts=3))
    error = await script.failure()
    assert type(error) is kind
    assert len(script.bodies) == tries
    assert [attempt.number for attempt in error.attempts] == list(range(1, tries + 1))


async def test_every_attempt_has_the_same_key_and_the_same_bytes(clock: FakeClock) -> None:
    script = Script([refusal(500), refusal(429), DisconnectedError("cut", sent=True), ConnectError("no")], clock)
    assert (await script.run()).status is Status.SUCCEEDED
    assert script.bodies == [b"1 of a fox"] * 5
    assert script.keys == ["key 1 of a fox"] * 5


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
    async with script.attempts() as jobs:
        first = asyncio.ensure_future(jobs.run(script.job("first")))
        await clock.advance(0)
        others = [asyncio.ensure_future(jobs.run(script.job(f"other {n}"))) for n in range(3)]
        await clock.advance(seconds * 0.99)
        assert len(script.at) == 1
        await clock.advance(seconds * 0.01 + 1e-6)
        assert script.at[1] == pytest.approx(100.0 + seconds)
        everybody = asyncio.gather(first, *others)
        while not everybody.done():
            await clock.advance(1.0)
    assert len(script.at) == 5


async def test_a_wait_asked_for_in_the_body_is_kept_as_well(clock: FakeClock) -> None:
    body = b'{"error":{"status":"RESOURCE_EXHAUSTED","details":[{"retryDelay":"11.8s"}]}}'
    script = Script([refusal(429, body)], clock, draw=0.0)
    await script.run()
    assert script.at[1] - script.at[0] == pytest.approx(11.8)


async def test_refusals_do_not_count_as_attempts_but_time_does(clock: FakeClock) -> None:
    patient = Script(
        [refusal(429, Retry_After="10")] * 20, clock, policy=RetryPolicy(on_ambiguous="retry", max_attempts=2), draw=0.0
    )
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
    script = Script(said, clock, policy=RetryPolicy(on_ambiguous="retry", max_attempts=2), draw=0.0)
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
    ],
)
async def test_a_job_that_may_have_been_billed_is_in_doubt(
    said: list[Said | ImagenError], status: Status, clock: FakeClock
) -> None:
    outcome = await Script([*said], clock, policy=RetryPolicy(on_ambiguous="retry", max_attempts=3)).run()
    assert outcome.status is status
    assert outcome.error is not None
    assert outcome.attempts == outcome.error.attempts
    assert len(outcome.attempts) == len(said)
    assert not outcome.images


async def test_an_outcome_tells_the_attempts_before_it_and_how_long_all_took(clock: FakeClock) -> None:
    outcome = await Script([refusal(500), refusal(500)], clock, draw=1.0).run()
    assert [attempt.number for attempt in outcome.attempts] == [1, 2]
    assert outcome.elapsed_s == pytest.approx(1.5)


# -- what an answer leaves out ---------------------------------------------------------------------------------------


def wide(width: int) -> bytes:
    """An image that is told from others by its width."""
    return png(ihdr(width, 2), chunk(b"IDAT", b"pixels"), chunk(b"IEND"))


def cut(*images: bytes, at: int) -> Said:
    """An answer that breaks off so many bytes before the end."""
    return Said(body=body_of(*images)[:-at], breaks=DisconnectedError("cut", sent=True))


async def test_images_that_came_whole_are_kept_and_only_the_missing_ones_asked_for_again(clock: FakeClock) -> None:
    first, second, third = wide(2), wide(3), wide(4)
    script = Script([cut(first, second, third, at=90), Said(body=body_of(third))], clock)
    outcome = await script.run(n=3)
    assert outcome.status is Status.SUCCEEDED
    assert [(image.index, image.width) for image in outcome.images] == [(0, 2), (1, 3), (2, 4)]
    assert script.store.committed == [first, second, third]
    # Another request has another body, and so must not have the same key.
    assert script.bodies == [b"3 of a fox", b"1 of a fox"]
    assert len(set(script.keys)) == 2
    assert [attempt.doubtful for attempt in outcome.attempts] == [1]
    assert script.store.open_sinks == 0


async def test_an_answer_that_broke_behind_its_last_image_has_cost_nothing(clock: FakeClock) -> None:
    script = Script([cut(png(), png(), at=3)], clock)
    outcome = await script.run(n=2)
    assert (outcome.status, len(outcome.images), outcome.attempts) == (Status.SUCCEEDED, 2, ())
    assert "the response was broken" in outcome.notes[0]


async def test_one_broken_image_does_not_cost_the_others(clock: FakeClock) -> None:
    broken = Said(body=body_of(wide(2), b"no image", wide(4)))
    outcome = await Script([broken, Said(body=body_of(wide(3)))], clock).run(n=3)
    assert [(image.index, image.width) for image in outcome.images] == [(0, 2), (1, 3), (2, 4)]
    assert outcome.attempts[0].error.startswith("ProtocolError")


async def test_what_was_kept_of_a_job_that_fails_in_the_end_is_a_partial_outcome_with_the_error(
    clock: FakeClock,
) -> None:
    script = Script([cut(png(), png(), at=90)] * 2, clock, policy=RetryPolicy())
    outcome = await script.run(n=3)
    assert (outcome.status, len(outcome.images)) == (Status.PARTIAL, 2)
    assert isinstance(outcome.error, DisconnectedError)
    assert [attempt.doubtful for attempt in outcome.attempts] == [2, 1]


def short(*images: bytes, reason: str | None = None) -> Said:
    body = body_of(*images)
    if reason is not None:
        body = body[:-2] + b"," * bool(images) + b'{"raiFilteredReason":"%s"}]}' % reason.encode()
    return Said(body=body)


async def test_a_short_answer_is_never_asked_for_again_by_default(clock: FakeClock) -> None:
    script = Script([short(png(), reason="violence")], clock)
    outcome = await script.run(n=3)
    assert (outcome.status, outcome.reasons, outcome.error) == (Status.PARTIAL, ("violence",), None)
    assert len(script.bodies) == 1


async def test_a_top_up_asks_for_what_is_missing_and_no_oftener_than_told(clock: FakeClock) -> None:
    script = Script([short(png()), short(), short(png()), short()], clock, policy=RetryPolicy(top_up=3))
    diary = Diary()
    outcome = await script.run(n=4, recorder=diary)
    assert (outcome.status, [image.index for image in outcome.images]) == (Status.PARTIAL, [0, 1])
    assert script.bodies == [b"4 of a fox", b"3 of a fox", b"3 of a fox", b"2 of a fox"]
    assert len(set(script.keys)) == 4
    assert diary.notes == [
        "sending 1 for 4", "answered with 1", "sending 2 for 3", "answered with 0",
        "sending 3 for 3", "answered with 1", "sending 4 for 2",
    ]  # fmt: skip


async def test_a_top_up_ends_when_nothing_is_missing(clock: FakeClock) -> None:
    script = Script([short(), short(png(), png())], clock, policy=RetryPolicy(top_up=9))
    assert (await script.run(n=2)).status is Status.SUCCEEDED
    assert len(script.bodies) == 2


async def test_a_job_whose_time_is_over_is_not_topped_up(clock: FakeClock) -> None:
    said = [refusal(429, Retry_After="50"), short(png()), short(png())]
    script = Script([*said], clock, policy=RetryPolicy(top_up=9, max_elapsed=60.0))
    script.said.insert(2, refusal(429, Retry_After="20"))
    outcome = await script.run(n=4)
    assert (outcome.status, len(outcome.images)) == (Status.PARTIAL, 1)


async def test_what_is_filtered_to_the_last_says_why_with_the_codes(clock: FakeClock) -> None:
    said: list[Said | ImagenError] = [
        short(reason="Support codes: 1234"),
        short(reason="violence. Support codes: 1234, 5678"),
    ]
    script = Script(said, clock, policy=RetryPolicy(top_up=1))
    error = await script.failure(n=2)
    assert isinstance(error, FilteredError)
    assert error.support_codes == ("1234", "5678")
    assert "violence" in str(error)
    assert error.attempts == ()


# -- how often what may have been billed is tried again --------------------------------------------------------------


@pytest.mark.parametrize(("wish", "sent"), [("fail", 1), ("once", 2), ("retry", 4)])
async def test_what_may_have_been_billed_is_sent_again_as_often_as_wished(
    wish: Any, sent: int, clock: FakeClock
) -> None:
    policy = RetryPolicy(on_ambiguous=wish, max_attempts=4)
    script = Script([refusal(500, x_should_retry="true")] * 9, clock, policy=policy)
    await script.failure()
    assert len(script.bodies) == sent
    assert len(set(script.keys)) == 1


async def test_after_a_doubt_what_was_never_sent_or_refused_is_still_free_to_be_tried_again(clock: FakeClock) -> None:
    said: list[Said | ImagenError] = [refusal(504), ConnectError("no"), refusal(429), ConnectError("no")]
    script = Script(said, clock, policy=RetryPolicy())
    assert (await script.run()).status is Status.SUCCEEDED


async def test_in_an_outage_jobs_that_wait_are_not_burned(clock: FakeClock) -> None:
    script = Script([ConnectError("refused")] * 9, clock, quota=RetryQuota(capacity=15, reserve=10))
    error = await script.failure()
    assert isinstance(error, OutageError)
    assert "4 requests in a row, the last with ConnectError: refused" in str(error)
    assert stops_everything(error)
    assert [attempt.failure for attempt in error.attempts] == [FailureClass.NEVER_SENT] * 4


async def test_a_job_that_is_let_go_has_an_outcome_if_anything_was_sent_for_it(clock: FakeClock) -> None:
    landed = asyncio.Event()
    answers: dict[str, list[Said | ImagenError]] = {
        "in_doubt": [refusal(500)],
        "failed": [ConnectError("no")],
        "partial": [attrs.evolve(short(png()), gate=landed)],
        "filtered": [attrs.evolve(short(), gate=landed)],
    }
    for status, said in answers.items():
        landed.clear()
        script = Script([*said], clock := FakeClock(moves=False), policy=RetryPolicy(top_up=1), size=1)
        async with script.attempts() as jobs:
            job, unsent = script.job(n=2), script.job("never sent")
            running = asyncio.ensure_future(jobs.run(job))
            await until(lambda: job.requests)  # noqa: B023 - it is called at once
            holder = asyncio.ensure_future(script.limiter.acquire())
            await settle()
            landed.set()
            await until(holder.done)
            waiting = asyncio.ensure_future(jobs.run(unsent))
            await clock.advance(10.0)
            for each, task in ((job, running), (unsent, waiting)):
                each.stop.stop()
                with pytest.raises(JobStopped) as stopped:
                    await task
                outcome = stopped.value.outcome
                assert (None if outcome is None else outcome.status.value) == (status if each is job else None)
            holder.result().release(Verdict.NOTHING)


# -- events ----------------------------------------------------------------------------------------------------------


async def test_every_step_of_a_job_is_told(clock: FakeClock) -> None:
    script = Script([refusal(500), cut(png(), png(), at=90), short()], clock)
    outcome = await script.run(n=2)
    named = [type(event).__name__ for event in script.events]
    assert named == ["Queued", "Started", "Retry", "Started", "Saved", "Retry", "Started", "Filtered"]
    started = [event for event in script.events if isinstance(event, Started)]
    assert [(event.attempt, event.images) for event in started] == [(1, 2), (2, 2), (3, 1)]
    assert {event.job for event in script.events if isinstance(event, JobEvent)} == {"fox"}
    assert [event.at for event in script.events] == sorted(event.at for event in script.events)
    assert outcome.status is Status.PARTIAL


async def test_the_failure_of_a_job_is_its_last_event(clock: FakeClock) -> None:
    script = Script([refusal(401)], clock)
    error = await script.failure()
    assert [type(event).__name__ for event in script.events] == ["Queued", "Started", "Failed"]
    failed = script.events[-1]
    assert isinstance(failed, Failed)
    assert (failed.status, failed.error) == (Status.FAILED, error)


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
class Diary(Unrecorded):
    """A witness that notes what it is told and fails where a test wants it to."""

    notes: list[str] = attrs.field(factory=list)
    keys: list[str] = attrs.field(factory=list)
    fails: str = ""

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        self.keys.append(idempotency_key)
        self._note(f"sending {attempt} for {images}")

    async def failed(self, attempt: Attempt) -> None:
        self._note(f"failed {attempt.number} {attempt.failure}")

    async def answered(self, images: int) -> None:
        self._note(f"answered with {images}")

    def _note(self, text: str) -> None:
        self.notes.append(text)
        if text == self.fails:
            raise JournalError("the journal broke")


async def test_a_witness_is_told_before_each_attempt_and_of_each_failure(clock: FakeClock) -> None:
    diary = Diary()
    script = Script([refusal(500), refusal(429)], clock)
    await script.run(recorder=diary)
    assert diary.notes == [
        "sending 1 for 1", "failed 1 ambiguous", "sending 2 for 1", "failed 2 refused", "sending 3 for 1",
    ]  # fmt: skip
    assert diary.keys == script.keys


async def test_nothing_is_sent_that_the_witness_could_not_note(clock: FakeClock) -> None:
    script = Script([refusal(500)], clock)
    caught = await script.failure(recorder=Diary(fails="sending 2 for 1"))
    assert isinstance(caught, JournalError)
    assert len(script.bodies) == 1
    assert len(caught.attempts) == 1


async def test_a_failure_that_the_witness_could_not_note_ends_the_job(clock: FakeClock) -> None:
    script = Script([refusal(500)], clock)
    assert isinstance(await script.failure(recorder=Diary(fails="failed 1 ambiguous")), JournalError)
    assert len(script.bodies) == 1


@attrs.define
class SlowDiary(Diary):
    """A diary that is written while others are answered."""

    written: asyncio.Event = attrs.field(factory=asyncio.Event)

    async def sending(self, attempt: int, images: int, idempotency_key: str) -> None:
        await super().sending(attempt, images, idempotency_key)
        await self.written.wait()


async def test_what_was_about_to_leave_when_a_pause_begins_stays_and_is_taken_back(clock: FakeClock) -> None:
    script = Script([refusal(429, Retry_After="30")], clock := FakeClock(moves=False))
    diary = SlowDiary()
    async with script.attempts() as jobs:
        slow = asyncio.ensure_future(jobs.run(script.job("slow", recorder=diary)))
        refused = asyncio.ensure_future(jobs.run(script.job("refused")))
        await clock.advance(1.0)
        diary.written.set()
        await clock.advance(28.0)
        assert len(script.bodies) == 1
        assert diary.notes == ["sending 1 for 1", "failed 1 never_sent"]
        everybody = asyncio.gather(slow, refused)
        while not everybody.done():
            await clock.advance(1.0)
    assert min(script.at[1:]) == pytest.approx(130.0)
    assert diary.notes[2:] == ["sending 1 for 1"]
    assert slow.result().attempts == ()


async def test_no_more_bodies_are_read_at_once_than_allowed(clock: FakeClock) -> None:
    gates = [asyncio.Event() for _ in range(4)]
    script = Script([Said(gate=gate) for gate in gates], clock, max_reading=2)
    async with script.attempts() as jobs:
        tasks = [asyncio.ensure_future(jobs.run(script.job(f"job {n}"))) for n in range(4)]
        await settle()
        assert len(script.bodies) == 4
        for gate in gates[2:]:
            gate.set()
        await settle()
        # The last two answers are there, but the first two are still being read.
        assert script.store.sinks == []
        for gate in gates[:2]:
            gate.set()
        await asyncio.gather(*tasks)
    assert len(script.store.committed) == 4


async def test_a_cancelled_backoff_leaves_nothing(clock: FakeClock) -> None:
    clock = FakeClock(moves=False)
    script = Script([refusal(500)], clock)
    async with script.attempts() as jobs:
        job = asyncio.ensure_future(jobs.run(script.job()))
        await settle()
        assert clock.sleeping == 1
        job.cancel()
        await settle()
        assert job.cancelled()
        assert clock.sleeping == 0


class SlowStore(SpyStore):
    """A store that waits before it opens an image."""

    def __init__(self) -> None:
        super().__init__()
        self.opening, self.gate = threading.Event(), threading.Event()

    def open(self, name: ImageName, /) -> SpySink:
        self.opening.set()
        assert self.gate.wait(30)
        return super().open(name)


@pytest.mark.parametrize("again", [False, True])
async def test_who_is_cancelled_while_the_images_of_a_broken_answer_are_kept_still_has_them(
    clock: FakeClock, *, again: bool
) -> None:
    store = SlowStore()
    script = Script([cut(png(), png(), at=90)], clock, store=store)
    async with script.attempts() as jobs:
        job = script.job(n=2)
        task = asyncio.ensure_future(jobs.run(job))
        await asyncio.to_thread(store.opening.wait, 30)
        task.cancel()
        await settle()
        store.gate.set()
        while again and not task.done():
            task.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await task
    assert len(store.committed) == 1
    assert ([image.index for image in job.images], job.missing) == ([0], (1,))


def test_key_model_quota_cap_disk_and_journal_stop_everything_and_nothing_else_does() -> None:
    stopping = [
        AuthenticationError("no", status=401),
        PermissionDeniedError("no", status=403),
        ModelNotFoundError("no", status=404),
        RedirectedError("no", status=302),
        ConfigurationError("no"),
        LimitReachedError("no"),
        OutageError("no"),
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
    assert [stops_everything(error) for error in (*stopping, *others)] == [True] * 10 + [False] * 7
