"""Counts the functions and modules of ours that one prompt passes: ``python -m benchmarks.walk``.

Counted are the distinct named functions of ``imagen_async``, and the distinct modules that define them, that are called
from ``client.stream`` on until the stream is closed again. One request goes through a client that has just been opened,
against the canned server in another process, into a `LocalStore`: connecting is part of the walk, a server is not.
Lambdas, comprehensions and module bodies do not count, because Python versions differ in which of them are frames.
Methods that attrs generates belong to none of our files and do not count either.

The first row counts the event loop's thread alone, which is the walk that a debugger shows. The second row adds the
threads in which the store writes.

``--list`` prints the walk: each function when it is first called, indented by how many of our functions are on the
stack. ``--checkout FOLDER`` counts another checkout of the package, to compare two versions.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from benchmarks.picture import SMALLEST
from benchmarks.processes import HOME, served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Step", "Walk", "main", "walked"]


@attrs.frozen
class Step:
    """A function of ours when it was first called.

    Attributes:
        module: Its module's path inside the package.
        line: Where the function begins.
        name: Its qualified name.
        depth: How many functions of ours were on the stack.
        in_loop: Whether the event loop's thread called it first.
    """

    module: str
    line: int
    name: str
    depth: int
    in_loop: bool

    def __str__(self) -> str:
        thread = "" if self.in_loop else "  [thread]"
        return f"{'  ' * self.depth}{self.module}:{self.line} {self.name}{thread}"


class Walk:
    """Records each function of a package when it is first called.

    Args:
        package: The package's folder.
    """

    def __init__(self, package: Path) -> None:
        self._package = f"{package}/"
        self._loop_thread = threading.get_ident()
        self._seen: dict[tuple[str, int, str], Step] = {}

    @property
    def steps(self) -> list[Step]:
        """The functions, in the order of their first calls."""
        return list(self._seen.values())

    def counts(self, *, all_threads: bool) -> tuple[int, int]:
        """Return how many functions and how many modules were passed."""
        steps = [step for step in self.steps if all_threads or step.in_loop]
        return len(steps), len({step.module for step in steps})

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Record in this thread and in those that start inside."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)
        try:
            yield
        finally:
            sys.setprofile(None)
            threading.setprofile(None)

    def _note(self, frame: FrameType, event: str, _: object) -> None:
        if event != "call" or not self._is_ours(frame):
            return
        code = frame.f_code
        key = (code.co_filename, code.co_firstlineno, code.co_qualname)
        in_loop = threading.get_ident() == self._loop_thread
        if key in self._seen and (self._seen[key].in_loop or not in_loop):
            return
        module = code.co_filename.removeprefix(self._package)
        self._seen[key] = Step(module, code.co_firstlineno, code.co_qualname, self._depth(frame), in_loop)

    def _is_ours(self, frame: FrameType) -> bool:
        code = frame.f_code
        return code.co_filename.startswith(self._package) and not code.co_name.startswith("<")

    def _depth(self, frame: FrameType) -> int:
        depth, outer = 0, frame.f_back
        while outer is not None:
            depth += self._is_ours(outer)
            outer = outer.f_back
        return depth


def walked(url: str, folder: Path) -> Walk:
    """Record the walk of one prompt through the package that is imported, into files below `folder`.

    Raises:
        ImagenError: The job has failed.
    """
    import imagen_async  # noqa: PLC0415 - --checkout decides which one
    from imagen_async import ImagenClient, ImageRequest, LocalStore  # noqa: PLC0415 - after --checkout too

    walk = Walk(Path(imagen_async.__file__).parent)

    async def run() -> None:
        store, requests = LocalStore(folder), [ImageRequest("A red fox at dawn")]
        async with ImagenClient("sk-bench", f"{url}/v1") as client:
            with walk.recorded():
                async with client.stream(requests, store=store) as outcomes:
                    async for outcome in outcomes:
                        if outcome.error is not None:
                            raise outcome.error

    asyncio.run(run())
    return walk


def main() -> None:
    """Print both counts, and with ``--list`` the walk."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.walk", description=__doc__)
    parser.add_argument("--size", type=int, default=SMALLEST, help="bytes of the image (%(default)s)")
    parser.add_argument("--list", action="store_true", help="print the functions in the order of their first calls")
    parser.add_argument("--checkout", type=Path, default=HOME, help="the checkout whose package is counted (this one)")
    given = parser.parse_args()
    sys.path.insert(0, str(given.checkout.resolve()))
    with served("benchmarks.server", "--size", str(given.size)) as server, tempfile.TemporaryDirectory() as folder:
        walk = walked(server.url, Path(folder))
    if given.list:
        print(*walk.steps, sep="\n", end="\n\n")
    print("| one prompt from `stream` into a `LocalStore` | functions | modules |\n| --- | ---: | ---: |")
    for name, all_threads in (("in the event loop's thread", False), ("in all threads", True)):
        functions, modules = walk.counts(all_threads=all_threads)
        print(f"| {name} | {functions} | {modules} |")


if __name__ == "__main__":
    main()
