"""Whoever is cancelled, at any step of the event loop, leaves nothing: no task, connection, file, slot or turn."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import ImagenClient, ImagenError, ImageRequest, LocalStore, RetryPolicy, RetryQuota
from tests.cancelling import (
    IMAGE,
    Attacked,
    Ground,
    attacked,
    attacks,
    covers_a_whole_run,
    ground,
    nothing_left,
    stepping,
)
from tests.clients import client_of, linux
from tests.clock import FakeClock, settle, until

if TYPE_CHECKING:
    from imagen_async.outcome import Outcome
    from imagen_async.sandbox.pytest_plugin import SandboxFactory

pytestmark = [linux, pytest.mark.slow]

Scene = Callable[[ImagenClient, Path], Coroutine[Any, Any, object]]

REQUESTS = [ImageRequest("a fox", n=2), ImageRequest("an owl"), ImageRequest("a hen")]
TROUBLE = ("good", "429", "cut", "500")
"""A refusal that names a wait, an answer that breaks off and one that is lost; each is tried again."""


class Fault(Exception):  # noqa: N818 - a test's own
    pass


async def in_memory(client: ImagenClient, _: Path) -> None:
    await client.generate(REQUESTS[0])


async def in_a_folder(client: ImagenClient, folder: Path) -> None:
    outcome = await client.generate(REQUESTS[0], store=LocalStore(folder))
    assert all(there(outcome))


async def streamed(client: ImagenClient, folder: Path) -> None:
    async with client.stream(REQUESTS, store=LocalStore(folder)) as outcomes:
        async for outcome in outcomes:
            assert all(there(outcome))


async def streamed_in_order(client: ImagenClient, folder: Path) -> None:
    async with client.stream(slowly(REQUESTS), store=LocalStore(folder), ordered=True) as outcomes:
        async for outcome in outcomes:
            assert all(there(outcome))


async def left_at_the_first(client: ImagenClient, _: Path) -> None:
    async with client.stream(REQUESTS) as outcomes:
        async for _outcome in outcomes:
            break


async def left_by_an_error(client: ImagenClient, folder: Path) -> None:
    with suppress(Fault):
        async with client.stream(REQUESTS, store=LocalStore(folder)) as outcomes:
            async for _ in outcomes:
                raise Fault


async def slowly(requests: list[ImageRequest]) -> AsyncIterator[ImageRequest]:
    for request in requests:
        await asyncio.sleep(0)
        yield request


def there(outcome: Outcome) -> list[bool]:
    return [Path(image.path or "").read_bytes() == IMAGE for image in outcome.images]


def hit(ended: Attacked) -> bool:
    """Whether the cancellation came in time; then it came through, as often as it was asked for and no oftener."""
    if not ended.hits:
        assert ended.error is None or isinstance(ended.error, ImagenError)
        return False
    assert isinstance(ended.error, asyncio.CancelledError)
    assert ended.cancelling == ended.hits
    return True


def attack(
    scene: Scene, script: tuple[str, ...], folder: Path, steps: Iterator[tuple[int, ...]], **options: Any
) -> list[int]:
    """Run a scene with each of the attacks until one comes too late.

    Returns:
        How many requests the gateway had read when each run ended; the last run is the one without a cancellation.
    """
    read: list[int] = []

    async def main() -> None:
        async with ground() as land:
            for when in steps:
                async with land.client(*script, **options) as client:
                    own = folder / str(len(read))
                    before = len(land.server.asked)
                    ended = await attacked(scene(client, own), *when)
                    read.append(len(land.server.asked) - before)
                    land.gateway.script.clear()
                    await nothing_left(client, own)
                if not hit(ended):
                    return

    stepping(main)
    return read


# -- cancelled -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [(), TROUBLE[1:]], ids=["all well", "trouble"])
@pytest.mark.parametrize("scene", [in_memory, in_a_folder])
def test_a_request_that_is_cancelled_at_any_step_leaves_nothing(
    scene: Scene, script: tuple[str, ...], tmp_path: Path
) -> None:
    assert covers_a_whole_run(attack(scene, script, tmp_path, attacks()))


def test_a_request_that_is_cancelled_at_any_step_of_an_outage_leaves_nothing(tmp_path: Path) -> None:
    quota = RetryQuota(capacity=50, reserve=40)  # the second failure opens the circuit, the third is a probe's
    retry = RetryPolicy(on_ambiguous="retry")
    assert covers_a_whole_run(attack(in_memory, ("500",) * 4, tmp_path, attacks(), quota=quota, retry=retry))


@pytest.mark.parametrize(
    ("scene", "script"),
    [(streamed, ()), (streamed_in_order, TROUBLE), (left_at_the_first, ()), (left_by_an_error, TROUBLE)],
)
def test_a_stream_that_is_cancelled_at_any_step_leaves_nothing(
    scene: Scene, script: tuple[str, ...], tmp_path: Path
) -> None:
    assert covers_a_whole_run(attack(scene, script, tmp_path, attacks()))


@pytest.mark.parametrize("scene", [in_a_folder, left_by_an_error])
def test_who_is_cancelled_again_while_it_is_ending_leaves_nothing_either(scene: Scene, tmp_path: Path) -> None:
    assert covers_a_whole_run(attack(scene, TROUBLE[1:], tmp_path, attacks((1, 2, 5), every=5)))


async def whole_program(land: Ground, folder: Path) -> None:
    async with land.fresh() as client:
        await in_a_folder(client, folder)


def test_a_client_whose_closing_is_cancelled_is_closed(tmp_path: Path) -> None:
    async def main() -> None:
        async with ground() as land:
            for (when,) in attacks():
                ended = await attacked(whole_program(land, tmp_path / str(when)), when)
                await land.clean()
                if not hit(ended):
                    break

    stepping(main)


async def test_a_pause_that_nobody_waits_out_any_more_leaves_no_task(imagen_sandbox_factory: SandboxFactory) -> None:
    clock = FakeClock(moves=False)
    gateway = await imagen_sandbox_factory(faults={"429": 1.0}, retry_after=600.0)
    async with client_of(gateway, clock) as client:
        first, second = (asyncio.ensure_future(client.generate(prompt)) for prompt in ("a fox", "an owl"))
        await until(lambda: clock.sleeping == 2)
        await clock.advance(0)
        assert (clock.sleeping, client.limiter.shared.paused()) == (1, 600)
        first.cancel()
        await asyncio.wait([first])
        await settle()
        assert clock.sleeping == 1  # for the other one
        second.cancel()
        await asyncio.wait([second])
        await settle()
        assert clock.sleeping == 0
        assert client.snapshot().timers == 0


# -- in a time-out, in a group ---------------------------------------------------------------------------------------


def over(limit: asyncio.Timeout) -> None:
    limit.reschedule(asyncio.get_running_loop().time())


async def within(limit: asyncio.Timeout, scene: Awaitable[object]) -> None:
    async with limit:
        await scene


def run_out(scene: Scene, folder: Path, steps: Iterator[tuple[int, ...]]) -> list[tuple[Attacked, asyncio.Timeout]]:
    """Have the time of a scene run out after the first of each attack's steps, and cancel it after the others."""
    every: list[tuple[Attacked, asyncio.Timeout]] = []

    async def main() -> None:
        async with ground() as land:
            for when in steps:
                async with land.client(*TROUBLE[1:]) as client:
                    limit, own = asyncio.timeout(None), folder / str(len(every))
                    expire = functools.partial(over, limit)
                    ended = await attacked(within(limit, scene(client, own)), *when, action=expire)
                    every.append((ended, limit))
                    land.gateway.script.clear()
                    await nothing_left(client, own)
                if not ended.hits:
                    return

    stepping(main)
    return every


@pytest.mark.parametrize("scene", [in_a_folder, streamed])
def test_a_time_out_at_any_step_is_a_time_out(scene: Scene, tmp_path: Path) -> None:
    every = run_out(scene, tmp_path, attacks(begin=1, every=2))
    assert {ended.cancelling for ended, _ in every} == {0}
    expired = [limit.expired() for _, limit in every]
    assert expired[0]
    assert expired == sorted(expired, reverse=True)  # a timeout after the end of the scene, and none before it
    late = [ended for ended, limit in every if not limit.expired()]
    assert {type(ended.error) for ended, limit in every if limit.expired()} == {TimeoutError}
    assert {ended.error for ended in late} <= {None}


def test_a_cancellation_beside_a_time_out_is_a_cancellation(tmp_path: Path) -> None:
    every = run_out(in_a_folder, tmp_path, attacks((0, 1, 2), begin=1, every=3))
    both = [ended for ended, _ in every if ended.hits == 2]
    assert {(type(ended.error), ended.cancelling) for ended in both} == {(asyncio.CancelledError, 1)}
    assert both


async def grouped(client: ImagenClient, folder: Path, fault: asyncio.Future[None]) -> None:
    async def fail() -> None:
        await fault

    async with asyncio.TaskGroup() as group:
        work = [group.create_task(in_memory(client, folder)), group.create_task(streamed(client, folder))]
        group.create_task(fail())
        await asyncio.wait(work)
        if not fault.done():
            fault.set_result(None)


def test_a_group_of_which_one_fails_at_any_step_ends_with_that_error_alone(tmp_path: Path) -> None:
    errors: list[BaseException | None] = []

    async def main() -> None:
        async with ground() as land:
            for (when,) in attacks(every=2):
                async with land.client() as client:
                    fault: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    ended = await attacked(
                        grouped(client, tmp_path / str(when), fault), when, action=functools.partial(break_down, fault)
                    )
                    await nothing_left(client, tmp_path / str(when))
                if not ended.hits:
                    return
                errors.append(ended.error)

    stepping(main)
    failed = [isinstance(error, ExceptionGroup) for error in errors]
    assert failed[0]
    assert failed == sorted(failed, reverse=True)  # at the end, the group was over before one of it could fail
    groups = [error.exceptions for error in errors if isinstance(error, ExceptionGroup)]
    assert {tuple(type(each) for each in exceptions) for exceptions in groups} == {(Fault,)}


def break_down(fault: asyncio.Future[None]) -> None:
    if not fault.done():
        fault.set_exception(Fault())
