"""A gateway that is not there: few requests, no job given up that only waited, and everything done when it is back."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import attrs
import pytest

from imagen_async.batch.journal import read_status
from imagen_async.exceptions import OutageError
from imagen_async.limiter.circuit import RetryQuota
from imagen_async.sandbox import SANDBOX_KEY, SandboxGateway
from tests.batch.running import Run, caught, errors, numbered, prompts, run
from tests.clock import FakeClock

if TYPE_CHECKING:
    from pathlib import Path
    from types import SimpleNamespace

    from imagen_async.batch import Batch
    from imagen_async.outcome import Outcome
    from imagen_async.sandbox.pytest_plugin import SandboxFactory

JOBS = 1000
SLOTS = 16
WINDOW = 2 * SLOTS
RETRIES = RetryQuota().capacity // RetryQuota().retry_cost


@attrs.define
class Tries:
    """Counts the requests that were tried, whether anybody was there or not."""

    count: int = 0

    @property
    def config(self) -> aiohttp.TraceConfig:
        config = aiohttp.TraceConfig()
        config.on_request_start.append(self._note)
        return config

    async def _note(self, _: object, __: SimpleNamespace, ___: object) -> None:
        self.count += 1


@attrs.define
class Nobody:
    """The address of a gateway that is not there."""

    port: int
    api_key: str = SANDBOX_KEY

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"


@pytest.fixture
def port() -> int:
    """A port without a server."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        number: int = free.getsockname()[1]
        return number


def interrupted(folder: Path) -> int:
    return read_status(folder / ".imagen").jobs["interrupted"]


async def test_without_a_server_a_batch_stops_within_its_quota_and_no_job_fails(tmp_path: Path, port: int) -> None:
    tries, clock = Tries(), FakeClock()
    asking: dict[str, Any] = {"slots": SLOTS, "trace_configs": [tries.config], "_runtime": clock.runtime()}
    stopped = await caught(Nobody(port), numbered(JOBS), tmp_path, asking=asking)
    check_stopped(stopped, "cannot connect to the gateway")
    assert (stopped.outcomes, stopped.summary.doubtful_usd) == ([], 0.0)
    assert tries.count == stopped.summary.attempts <= WINDOW + RETRIES
    assert 60.0 < clock.now - 100.0 < 600.0  # as long as the probes last
    assert interrupted(tmp_path) <= WINDOW
    assert {line["status"] for line in errors(tmp_path)} <= {"interrupted"}
    async with SandboxGateway(images="tiny", port=port) as gateway:
        assert (await run(gateway, numbered(JOBS), tmp_path)).statuses == ["succeeded"] * JOBS
        assert gateway.ledger.billed_images == JOBS
    assert errors(tmp_path) == []


def check_stopped(stopped: Run, why: str) -> None:
    assert isinstance(stopped.error, OutageError)
    assert str(stopped.error).startswith("no response: ")
    assert why in str(stopped.error)
    assert str(stopped.error).endswith("is used up. Run again when the gateway is back")


@pytest.mark.parametrize("on_ambiguous", ["once", "retry", "fail"])
async def test_when_every_response_is_502_a_batch_stops_within_its_quota(
    imagen_sandbox_factory: SandboxFactory, tmp_path: Path, on_ambiguous: Literal["once", "retry", "fail"]
) -> None:
    gateway = await imagen_sandbox_factory(faults={"502-html": 1.0})
    asking = {"slots": SLOTS, "on_ambiguous": on_ambiguous}
    stopped = await caught(gateway, numbered(JOBS), tmp_path, asking=asking)
    check_stopped(stopped, "502 Bad Gateway")
    assert gateway.requests == stopped.summary.attempts == stopped.summary.doubts <= WINDOW + RETRIES
    assert set(stopped.statuses) <= {"in_doubt"}
    status = read_status(tmp_path / ".imagen")
    assert status.jobs["failed"] == 0
    assert status.doubts == gateway.requests
    back = await imagen_sandbox_factory()
    again = await run(back, numbered(100), tmp_path, retry_failed=True)
    assert again.statuses == ["succeeded"] * 100
    assert back.ledger.billed_images == 100


class Absence(FakeClock):
    """A clock at whose `until` a gateway is there again; it stands still while that comes up."""

    def __init__(self, gateway: SandboxGateway, until: float) -> None:
        super().__init__()
        self.gone: list[asyncio.Task[None]] = []
        """The end of the gateway that was there before."""
        self._gateway = gateway
        self._until = until
        self._turn = asyncio.Lock()
        self.back_at = 0.0

    async def sleep(self, seconds: float) -> None:
        """As ever; and let the gateway come back."""
        async with self._turn:
            if self.gone and self.now + seconds >= self._until and not self.back_at:
                await asyncio.gather(*self.gone)
                await self._gateway.start()
                self.back_at = self.now + seconds
        await super().sleep(seconds)


async def test_a_short_outage_costs_no_job(tmp_path: Path, port: int) -> None:
    first, again = SandboxGateway(images="tiny", port=port), SandboxGateway(images="tiny", port=port)
    clock, tries = Absence(again, until=130.0), Tries()

    def each(batch: Batch, _: Outcome) -> None:
        if batch.progress.succeeded >= 50 and not clock.gone:
            clock.gone.append(asyncio.ensure_future(first.aclose()))

    asking: dict[str, Any] = {
        "slots": SLOTS,
        "attempts": 50,
        "trace_configs": [tries.config],
        "_runtime": clock.runtime(),
    }
    async with first:
        done = await run(first, numbered(300), tmp_path, asking=asking, each=each)
    await again.aclose()
    assert done.statuses == ["succeeded"] * 300
    assert prompts(tmp_path) == sorted(request.prompt for request in numbered(300))
    assert 130.0 <= clock.back_at < 170.0
    assert tries.count <= 300 + SLOTS + 2 * RETRIES  # successes refill the quota
    assert {line["status"] for line in errors(tmp_path)} <= {"in_doubt"}  # requests that were cut off, and sent again
