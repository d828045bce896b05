"""Cancellation at every step: an event loop that counts what it does, and does something to a task at a chosen count.

A step is one callback that the loop has run: a task that went on a little, a future that woke somebody, a thread that
reported back. That is finer than a turn of the loop, and finer than the awaits of the task itself. Between a socket's
news and whoever waits for it there is a step as well.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import selectors
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVarTuple, Unpack

import attrs
from hypothesis import settings

from imagen_async import ImagenClient
from imagen_async.client.snapshot import ClientSnapshot
from tests.clients import KEY
from tests.clock import FakeClock, until
from tests.pictures import encoded
from tests.servers import Server, body_of, reply, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
    from contextvars import Context
    from pathlib import Path

    from tests.servers import Asked

__all__ = [
    "IMAGE",
    "THOROUGH",
    "Attacked",
    "Ground",
    "Scripted",
    "SteppingLoop",
    "attacked",
    "attacks",
    "covers_a_whole_run",
    "ground",
    "nothing_left",
    "stepping",
]

_Ts = TypeVarTuple("_Ts")

THOROUGH = settings().max_examples > 1000
"""Whether this is a run of the thorough profile; see `tests.profiles`."""

IMAGE = encoded("PNG", 60, 50)
"""What the server answers with; it comes in several pieces."""


# -- the loop --------------------------------------------------------------------------------------------------------


class _Echoing(selectors.DefaultSelector):
    """A selector that gives the loop a step before it handles what came, and one before anybody hears of it."""

    loop: asyncio.AbstractEventLoop | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Wait for sockets, and for threads that report back."""
        came = super().select(timeout)
        if came and self.loop is not None:
            self.loop.call_soon(self.loop.call_soon, _nothing)
        return came


def _nothing() -> None:
    """Take a step."""


class SteppingLoop(asyncio.SelectorEventLoop):
    """Does what it is told to after chosen steps.

    Attributes:
        steps: How many callbacks have been run.
        hits: How many of the actions have been done.
        complaints: What was told to the loop's exception handler: errors that nobody has seen.
    """

    def __init__(self) -> None:
        selector = _Echoing()
        super().__init__(selector)
        selector.loop = self
        self.steps = self.hits = 0
        self.complaints: list[dict[str, Any]] = []
        self._due: list[tuple[int, Callable[[], object]]] = []
        self.set_exception_handler(lambda _, context: self.complaints.append(context))

    def arm(self, *actions: tuple[int, Callable[[], object]]) -> None:
        """Do each action when so many steps more have been taken; whatever was to be done before is forgotten."""
        self.hits = 0
        self._due = sorted(((self.steps + steps, action) for steps, action in actions), key=lambda due: due[0])
        self._act()

    # The interpreter's own tasks and futures come through here as well.
    def call_soon(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Count it."""
        return super().call_soon(self._step, callback, *args, context=context)

    def call_soon_threadsafe(
        self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts, context: Context | None = None
    ) -> asyncio.Handle:
        """Count it."""
        return super().call_soon_threadsafe(self._step, callback, *args, context=context)

    def _step(self, callback: Callable[[Unpack[_Ts]], object], *args: *_Ts) -> None:
        callback(*args)
        self.steps += 1
        self._act()

    def _act(self) -> None:
        while self._due and self._due[0][0] <= self.steps:
            self.hits += 1
            self._due.pop(0)[1]()


def stepping(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run `main` in a `SteppingLoop`."""
    with asyncio.Runner(loop_factory=SteppingLoop) as runner:
        runner.run(main())


def _loop() -> SteppingLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, SteppingLoop)
    return loop


# -- the attack ------------------------------------------------------------------------------------------------------


@attrs.define
class Attacked:
    """What became of a coroutine.

    Attributes:
        hits: How many of the actions came before its end.
        cancelling: What its task's `cancelling` said at its end.
        error: What it raised, or None.
    """

    hits: int = 0
    cancelling: int = 0
    error: BaseException | None = None


async def attacked(
    scene: Coroutine[Any, Any, object], *steps: int, action: Callable[[], object] | None = None
) -> Attacked:
    """Run `scene` in a task that is cancelled after each of `steps`; see that it hears of that, and hears it once.

    Args:
        scene: What is cancelled.
        steps: When.
        action: What is done at the first of `steps` instead.
    """
    loop, ended = _loop(), Attacked()

    async def play() -> None:
        task = asyncio.current_task()
        assert task is not None
        actions = [task.cancel] * len(steps) if action is None else [action, *[task.cancel] * (len(steps) - 1)]
        loop.arm(*zip(steps, actions, strict=True))
        try:
            await scene
        except BaseException as error:  # noqa: BLE001 - whatever it is, the test looks at it
            ended.error = error
        ended.hits, ended.cancelling = loop.hits, task.cancelling()
        loop.arm()
        # Nothing of it is left over: whoever goes on is not hit by what was meant for the scene.
        for _ in range(3):
            await asyncio.sleep(0)

    await loop.create_task(play())
    return ended


def attacks(*more: Sequence[int], begin: int = 0, every: int = 1) -> Iterator[tuple[int, ...]]:
    """Give the steps of attacks, without end: the first cancellation later and later, and others at a distance.

    Args:
        *more: The distances that are tried of a second cancellation, a third, and so on.
        begin: The first step.
        every: Steps from one attack to the next; in a thorough run, one.
    """
    for first in itertools.count(begin, 1 if THOROUGH else every):
        for distances in itertools.product(*more):
            yield tuple(itertools.accumulate(distances, initial=first))


def covers_a_whole_run(read: Sequence[int]) -> bool:
    """Return whether a scene was cancelled from before its first request until after its last one.

    How many steps that takes differs between Python versions; how many requests there are does not.

    Args:
        read: The requests that the gateway had read at the end of each run; the last run was not cancelled.
    """
    *cancelled, undisturbed = read
    return cancelled[0] == 0 < undisturbed <= max(cancelled)


# -- the gateway -----------------------------------------------------------------------------------------------------


@attrs.define
class Scripted:
    """A gateway that answers as it is told, one word a request, and then well.

    ``429`` refuses with a wait, ``500`` breaks down, ``401`` refuses the key, ``cut`` ends in the middle of the images.

    Attributes:
        script: The words that are left.
        billed: The images that each prompt has been billed for.
    """

    script: list[str] = attrs.field(factory=list)
    billed: dict[str, int] = attrs.field(factory=dict)

    async def __call__(self, asked: Asked, writer: asyncio.StreamWriter) -> None:
        prompt, images = asked.json["prompt"], asked.json.get("n", 1)
        word = self.script.pop(0) if self.script else "good"
        if word not in {"429", "401"}:
            self.billed[prompt] = self.billed.get(prompt, 0) + images
        if word.isdigit():
            after = "Retry-After: 30\r\n" if word == "429" else ""
            writer.write(reply(b'{"error": {}}', status=int(word), headers=after))
            return
        whole = reply(body_of(*[IMAGE] * images))
        third = len(whole) // 3
        for part in (whole[:third], whole[third : 2 * third], *([] if word == "cut" else [whole[2 * third :]])):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if word == "cut":
            writer.close()


# -- what is left ----------------------------------------------------------------------------------------------------


@attrs.define
class Ground:
    """A gateway, and what was open before anybody asked it.

    Attributes:
        gateway: What it says.
        server: Where it listens.
        before: The descriptors that were open.
    """

    gateway: Scripted
    server: Server
    before: list[str]

    def fresh(self, *script: str, **options: Any) -> ImagenClient:
        """Make a client to which the gateway answers by `script`."""
        self.gateway.script[:], self.gateway.billed = list(script), {}
        options = {"max_concurrency": 2, "_runtime": FakeClock().runtime(lambda: 0.5), **options}
        return ImagenClient(KEY, self.server.base_url, **options)

    @asynccontextmanager
    async def client(self, *script: str, **options: Any) -> AsyncIterator[ImagenClient]:
        """Open a fresh client; when it is closed nothing may be left of it."""
        async with self.fresh(*script, **options) as client:
            yield client
        await self.clean()

    async def clean(self) -> None:
        """Wait until the server has seen our connections go, and compare."""
        await until(lambda: self.server.open == 0)
        await until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("imagen")])
        assert _own_tasks() == []
        for _ in range(3):
            await asyncio.sleep(0)  # the server's own ends of the connections
        assert _descriptors() == self.before
        assert _loop().complaints == []


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Run a gateway in this loop."""
    gateway = Scripted()
    async with serving(gateway) as server:
        yield Ground(gateway, server, _descriptors())


IDLE = ClientSnapshot(
    in_flight=0,
    waiting=0,
    shared_in_flight=0,
    shared_waiting=0,
    timers=0,
    probing=False,
    reading=0,
    backlog_bytes=0,
    spilled_bytes=0,
)


async def nothing_left(client: ImagenClient, folder: Path | None = None) -> None:
    """See that nothing is left of what an open client did, that it works, and that there are whole files only."""
    await asyncio.sleep(0)  # who is cancelled ends a step later
    assert _own_tasks() == []
    assert client.snapshot() == IDLE
    assert folder is None or _broken(folder) == []
    assert (await client.generate("the next one")).ok


def _broken(folder: Path) -> list[Path]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [path for path in files if path.suffix != ".png" or path.read_bytes() != IMAGE]


def _own_tasks() -> list[str]:
    """The tasks of this loop, save the current one and the server's."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    return [repr(task) for task in others if "serving" not in repr(task)]


def _descriptors() -> list[str]:
    """What this process has open; no garbage is collected for it."""
    found = []
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - names are enough
        try:
            found.append(os.readlink(f"/proc/self/fd/{name}"))  # noqa: PTH115 - a text will do
        except FileNotFoundError:  # the listing's own
            continue
    return sorted(found)
