"""The command line, in forks of a process that has imported it, so that each of a thousand runs starts immediately.

A run is the command line as it is, but that its batch says each outcome as it gives it out, names its temporary files
as told, has a client without patience, and waits for strace if it is to be traced. What was said is what a user relies
on; and a point in a run can only be named if its paths can be known before.

Usage: ``python -m tests.torture.child``. Each line of the standard input orders a run, as the JSON of an `Order`; it is
answered by a line with the process's id as it begins, and one with its exit status when it has ended.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any, ClassVar
from unittest import mock

import attrs

from imagen_async import ImagenClient, batch
from imagen_async.cli import connect, run
from imagen_async.cli.app import launch

if TYPE_CHECKING:
    from imagen_async.limiter.backoff import RetryPolicy
    from imagen_async.outcome import Outcome

__all__ = ["Order"]

_PRELOADED = (connect, run)
_PATIENCE_S = 10.0
_PR_SET_PTRACER = 0x59616D61
_ANY = ctypes.c_ulong(-1)


@attrs.frozen(kw_only=True)
class Order:
    """One run.

    Attributes:
        arguments: Of the command line.
        key: For the gateway.
        token: What its temporary files are named by; twelve hex digits.
        told: The file that its standard output goes to.
        complaint: That of its standard error.
        traced: Whether it waits until it is traced.
    """

    arguments: list[str]
    key: str
    token: str
    told: str
    complaint: str
    traced: bool


class SaidBatch(batch.Batch):
    """A batch that prints each outcome in one write."""

    token: ClassVar = ""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._store._token = self.token

    async def __anext__(self) -> Outcome:
        """Return the next outcome, and print it."""
        outcome = await super().__anext__()
        os.write(1, f"said {outcome.status} {outcome.request.id}\n".encode())
        return outcome


def impatient(*arguments: Any, retry: RetryPolicy, **options: Any) -> ImagenClient:
    """Make a client with short waits that retries every failed request."""
    retry = attrs.evolve(retry, initial=0.01, on_ambiguous="retry")
    return ImagenClient(*arguments, retry=retry, **options)


def _serve() -> None:
    while line := sys.stdin.readline():
        order = Order(**json.loads(line))
        process = os.fork()
        if process == 0:
            sys.exit(_carried_out(order))
        _answer(process)
        _, status = os.waitpid(process, 0)
        _answer(os.waitstatus_to_exitcode(status))


def _answer(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


def _carried_out(order: Order) -> int:
    os.setsid()
    for descriptor, path in ((0, os.devnull), (1, order.told), (2, order.complaint)):
        os.dup2(os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC), descriptor)
    if order.traced:
        _wait_for_tracer()
    os.environ["IMAGEN_API_KEY"] = order.key
    SaidBatch.token = order.token
    with mock.patch.object(batch, "Batch", SaidBatch), mock.patch.object(connect, "ImagenClient", impatient):
        return launch(order.arguments)


def _wait_for_tracer() -> None:
    # Where Yama keeps watch, a process that is not root may trace its own children only, unless they let it.
    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, _ANY)
    end = time.monotonic() + _PATIENCE_S
    while "\nTracerPid:\t0\n" in _own_status():
        if time.monotonic() > end:
            raise TimeoutError("strace does not come")
        time.sleep(0.001)


def _own_status() -> str:
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123 - a Path does not help here
        return status.read()


if __name__ == "__main__":
    _serve()
