"""A gateway that is hostile to one prompt and good to all others, a client that asks it, and what must not be left."""

from __future__ import annotations

import asyncio
import gc
import os
import re
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagen_async import ImagenClient, ImagenError, RetryPolicy
from tests.clients import KEY, other_tasks
from tests.clock import FakeClock, LoopClock
from tests.hostile.bodies import ASKED, BODY, SECOND
from tests.servers import answer, body_of, reply, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.hostile.cases import Case
    from tests.servers import Asked, Handler, Server

__all__ = ["ATTACKED", "FOX", "OWL", "WHALE", "answered", "asking", "check", "hostile_gateway", "hostile_to", "passing"]

FOX, OWL, WHALE = "A red fox", "An owl", "A blue whale"

_FILES = Path("/proc/self/fd")
_GOOD = {1: answer(reply(body_of(SECOND))), 2: answer(reply(BODY))}


def hostile_to(prompt: str, said: Handler, *, times: float = float("inf")) -> Handler:
    """A handler that answers a prompt with `said`, so many times, and other requests with valid images."""
    given = 0

    async def handler(asked: Asked, writer: asyncio.StreamWriter) -> None:
        nonlocal given
        if asked.json["prompt"] == prompt and given < times:
            given += 1
            await said(asked, writer)
        else:
            await _GOOD[asked.json["n"]](asked, writer)

    return handler


@asynccontextmanager
async def hostile_gateway(said: Handler, *, times: float = float("inf")) -> AsyncIterator[Server]:
    """A server that is hostile to `FOX`; see `leaving_nothing`."""
    async with leaving_nothing(), serving(hostile_to(FOX, said, times=times)) as server:
        yield server
        await _gone(lambda: server.open == 0)


@asynccontextmanager
async def leaving_nothing() -> AsyncIterator[None]:
    """Check that no task, connection or descriptor is left, and that the event loop reported no error."""
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
    before = _left()
    yield
    await _gone(lambda: _left() == before)
    gc.collect()
    assert not complaints, complaints


def _left() -> tuple[int, set[str]]:
    # Linux shows open files here; elsewhere they are not counted.
    return len(os.listdir(_FILES)) if _FILES.exists() else 0, other_tasks()  # noqa: PTH208 - names are enough


async def _gone(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds, for a bounded time, while the loop's clock jumps ahead."""
    clock = LoopClock()
    for _ in range(100):
        if condition():
            return
        await asyncio.sleep(0.001)
        await clock.jump(1.0)
    assert condition()


def asking(server: Server, **options: Any) -> ImagenClient:
    """A client with a fake clock, which does not retry a request in doubt."""
    options.setdefault("retry", RetryPolicy(on_ambiguous="fail"))
    return ImagenClient(KEY, server.base_url, _runtime=FakeClock().runtime(), **options)


async def answered(client: ImagenClient, prompt: str) -> tuple[list[bytes | None], ImagenError | None]:
    """The images that are kept in memory, and the error."""
    try:
        outcome = await client.generate(prompt, n=ASKED)
    except ImagenError as error:
        return [], error
    return [image.data for image in outcome.images], outcome.error


@asynccontextmanager
async def passing(step: float, *, once: Callable[[], bool]) -> AsyncIterator[None]:
    """Let so many seconds pass on the event loop's clock, again and again, from when `once` is true."""

    async def tick(clock: LoopClock) -> None:
        while True:
            await (clock.jump(step) if once() else asyncio.sleep(0.001))

    ticking = asyncio.ensure_future(tick(LoopClock())) if step else None
    try:
        yield
    finally:
        if ticking is not None:
            ticking.cancel()
            await asyncio.wait([ticking])


def check(error: ImagenError | None, case: Case) -> None:
    """An error is of the case's type, names its check and its place, and is one line that is safe to print."""
    assert type(error) is case.error
    assert getattr(error, "check", None) == case.check
    assert re.search(case.where, str(error)), str(error)
    assert str(error).isprintable()


ATTACKED = (OWL, FOX, WHALE)
"""The prompts of a batch; the second one gets the hostile response."""
