"""Compares the journal with the gateway's ledger, request by request, over a batch with every kind of fault.

`accounts` has the equation for one request. In total, the ledger's bill is exactly the cost of the images kept and of
the billed images in doubt.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import attrs
import pytest

from imagen_async import ImageRequest
from imagen_async.batch import Batch, Summary
from imagen_async.batch.journal import read_status
from imagen_async.exceptions import LimitReachedError
from imagen_async.sandbox import LedgerEntry, SandboxGateway, SandboxOptions
from tests.batch.accounts import (
    DOLLAR,
    FREE_DOUBTS,
    MODELS,
    OURS,
    Accounts,
    check_all_listed,
    check_requests,
    listed_for,
    price,
)
from tests.batch.running import FOX, caught, client, files, strays
from tests.clock import until

JOBS = 10_000
SLOTS = 16

FAILURES = (
    "429", "400-blocked", "500", "502-html", "503", "504", "524-html", "disconnect", "truncate", "truncate-close",
    "truncate-chunked", "stall", "error-in-200", "html-in-200", "filtered", "short", "null-image", "corrupt-base64",
    "not-an-image", "no-iend",
)  # fmt: skip
FATAL = ("401", "403", "503-model-not-found")
NEVER_SENT = 0.05
"""Share of connections that do not come about."""
RATES = {**dict.fromkeys(FAILURES, 0.01), "odd-wrapping": 0.05, "slow": 0.05}
FILTERED = frozenset({"filtered", "short", "null-image"})
WRONG = SandboxOptions(images="tiny", faults=RATES, models=tuple(OURS), stall_s=0, retry_after=1)


class Dripping:
    """Sleep of a gateway: it never waits, but for answers that drip once `hold` is set; they stop after some drips."""

    def __init__(self) -> None:
        self.hold = False
        self.held = 0
        self.let = asyncio.Event()
        self._drips: Counter[object] = Counter()

    async def __call__(self, seconds: float) -> None:
        """Drip."""
        self._drips[asyncio.current_task()] += seconds > 0
        if self.hold and self._drips[asyncio.current_task()] % 16 == 12:
            self.held += 1
            await self.let.wait()


def rows(count: int) -> list[ImageRequest]:
    """Requests of all models and sizes."""
    return [
        ImageRequest(f"{FOX} number {number}", id=f"job{number}", model=MODELS[number % 3], n=1 + number % 4)
        for number in range(count)
    ]


def check_keys(accounts: Accounts) -> None:
    """A key stands for one request, and for no other's sake is it used again."""
    asked = {(entry.idempotency_key, entry.prompt, entry.n) for entry in accounts.entries}
    assert len(asked) == len({entry.idempotency_key for entry in accounts.entries})


def check_one_run(entries: Sequence[LedgerEntry], kept: Mapping[str, int], *, top_up: int = 0) -> None:
    """Within a run: after what ends a job nothing is sent, and what is ambiguous is tried again once."""
    filtered: Counter[object] = Counter()
    ambiguous: Counter[object] = Counter()
    ended: set[object] = set()
    for entry in entries:
        assert entry.prompt not in ended
        lost = listed_for(entry, kept[entry.request_id])
        ambiguous[entry.prompt] += bool(lost)
        filtered[entry.prompt] += entry.fault in FILTERED
        whole = not lost and entry.fault != "429" and kept[entry.request_id] == entry.n
        if (
            whole
            or entry.fault in {"400-blocked", *FATAL}
            or ambiguous[entry.prompt] > 1
            or filtered[entry.prompt] > top_up
        ):
            ended.add(entry.prompt)


def check_totals(accounts: Accounts, summaries: Sequence[Summary]) -> None:
    """Over all: the ledger's bill is our cost, and those doubts of ours that it did bill; nothing else is listed."""
    billed = sum(entry.billed * price(entry.model) for entry in accounts.entries)
    free = sum((entry.n or 0) * price(entry.model) for entry in accounts.entries if entry.fault in FREE_DOUBTS)
    cost = sum(accounts.kept[entry.request_id] * price(entry.model) for entry in accounts.entries)
    status = read_status(accounts.folder / ".imagen")
    assert billed == pytest.approx(cost + status.doubtful_usd - free, abs=DOLLAR)
    check_summaries(accounts, summaries)


def check_summaries(accounts: Accounts, summaries: Sequence[Summary]) -> None:
    """What the runs have told is what the journal, the two files and the folder hold."""
    status = read_status(accounts.folder / ".imagen")
    cost = sum(accounts.kept[entry.request_id] * price(entry.model) for entry in accounts.entries)
    assert sum(summary.cost_usd for summary in summaries) == pytest.approx(cost, abs=DOLLAR)
    assert sum(summary.doubtful_usd for summary in summaries) == pytest.approx(status.doubtful_usd, abs=DOLLAR)
    assert sum(summary.images for summary in summaries) == status.images == sum(accounts.kept.values())
    assert len(files(accounts.folder)) == status.images
    assert sum(doubt["images"] for doubts in accounts.doubts.values() for doubt in doubts) == status.doubtful_images
    assert status.unanswered.requests == 0
    assert strays(accounts.folder) == []


def spent(accounts: Accounts) -> int:
    """Images that are bought, or that may have been as far as we can tell."""
    listed = sum(doubt["images"] for doubts in accounts.doubts.values() for doubt in doubts)
    return int(sum(accounts.kept.values()) + listed)


def asking(**options: Any) -> dict[str, Any]:
    return {"slots": SLOTS, "on_ambiguous": "once", "catalog": OURS, **options}


@attrs.define
class Story:
    """Runs into one folder, one after the other, checked after each.

    Attributes:
        gateway: Who is asked.
        requests: What for.
        folder: Where to.
        top_up: Of the client.
        summaries: What came of each run.
        ends: How many requests had come at the end of each run.
    """

    gateway: SandboxGateway
    requests: Sequence[ImageRequest]
    folder: Path
    top_up: int = 0
    summaries: list[Summary] = attrs.field(factory=list)
    ends: list[int] = attrs.field(factory=lambda: [0])

    async def run(self, *, connector: aiohttp.BaseConnector | None = None, **options: Any) -> BaseException | None:
        """Run until everything is done, or something stops it."""
        asked = asking(top_up=self.top_up, connector=connector)
        done = await caught(self.gateway, self.requests, self.folder, asking=asked, **options)
        await self.checked(done.summary)
        return done.error

    async def checked(self, summary: Summary) -> None:
        await self.gateway.settled()
        self.summaries.append(summary)
        self.ends.append(self.gateway.requests)
        accounts = Accounts.of(self.gateway.ledger, self.folder)
        check_totals(accounts, self.summaries)
        check_requests(accounts, self.requests)
        check_keys(accounts)
        check_one_run(self.last_run, accounts.kept, top_up=self.top_up)

    @property
    def last_run(self) -> Sequence[LedgerEntry]:
        """The requests of the last run."""
        return self.gateway.ledger.entries[self.ends[-2] :]

    @property
    def spent(self) -> int:
        return spent(Accounts.of(self.gateway.ledger, self.folder))


async def exhaust(batch: Batch) -> None:
    async for _ in batch:
        pass


async def leave_in_mid_answer(story: Story, dripping: Dripping) -> None:
    """Run until every request in flight has a part of its response and waits for the rest; then leave."""
    dripping.hold = True
    async with (
        client(story.gateway, **asking(top_up=story.top_up)) as asker,
        Batch(asker, story.requests, output=story.folder, fsync=False) as batch,
    ):
        consumer = asyncio.ensure_future(exhaust(batch))
        await until(lambda: dripping.held >= 4 and dripping.held == asker.limiter.in_flight)
    consumer.cancel()
    dripping.hold = False
    dripping.let.set()
    await story.checked(batch.summary)


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_every_image_that_was_billed_is_kept_or_listed_and_none_is_bought_twice(tmp_path: Path) -> None:
    dripping, cap = Dripping(), JOBS
    async with SandboxGateway(WRONG, sleep=dripping, seed=5) as gateway:
        story = Story(gateway, rows(JOBS), tmp_path)
        assert isinstance(await story.run(max_images=cap), LimitReachedError)
        assert cap - 20 < story.spent <= cap
        await leave_in_mid_answer(story, dripping)
        kept = Accounts.of(gateway.ledger, tmp_path).kept
        assert any(0 < kept[entry.request_id] < (entry.n or 0) for entry in story.last_run if entry.fault == "slow")
        assert await story.run() is None
        assert await story.run(retry_failed=True) is None
        assert {entry.fault for entry in gateway.ledger} >= {*FAILURES, "slow", "odd-wrapping:gzip", None}


class FailingConnector(aiohttp.TCPConnector):
    """A connector that cannot connect now and then, so that nothing is sent."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__(limit=0)
        self.failed = 0
        self._chance = chance

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's own signature
        if self._chance.random() < NEVER_SENT:
            self.failed += 1
            raise aiohttp.ClientConnectorError(req.connection_key, OSError(111, "refused"))
        return await super().connect(req, traces, timeout)


async def test_unsent_requests_and_fatal_errors_cost_nothing_and_lose_nothing(tmp_path: Path) -> None:
    rates, refused, stops = {**RATES, **dict.fromkeys(FATAL, 0.004)}, 0, Counter[str]()
    async with SandboxGateway(WRONG, faults=rates, sleep=Dripping(), seed=7) as gateway:
        story = Story(gateway, rows(1_000), tmp_path)
        for number in range(60):
            connector = FailingConnector(random.Random(number))
            error = await story.run(connector=connector)
            await connector.close()
            refused += connector.failed
            stops[type(error).__name__] += 1
            if error is None:
                break
        assert {entry.fault for entry in gateway.ledger} >= {*FATAL, *FAILURES}
    # Each stopped a run, and the next one went on.
    assert stops == {**stops, "NoneType": 1}
    assert set(stops) == {"AuthenticationError", "PermissionDeniedError", "ModelNotFoundError", "NoneType"}
    assert refused > 20


async def test_filtered_images_that_are_requested_again_are_paid_once(tmp_path: Path) -> None:
    rates = {**RATES, "filtered": 0.15, "short": 0.15}
    async with SandboxGateway(WRONG, faults=rates, sleep=Dripping(), seed=6) as gateway:
        story = Story(gateway, rows(200), tmp_path, top_up=2)
        assert isinstance(await story.run(max_images=200), LimitReachedError)
        assert story.spent <= 200
        assert await story.run() is None
        assert await story.run(retry_failed=True) is None


@pytest.mark.parametrize("seed", range(4))
async def test_a_batch_that_is_left_at_any_moment_lists_every_request_in_doubt(tmp_path: Path, seed: int) -> None:
    chance, requests = random.Random(seed), rows(120)
    summaries: list[Summary] = []
    async with SandboxGateway(WRONG, sleep=Dripping(), seed=seed) as gateway:
        for _ in range(6):
            async with (
                client(gateway, **asking(top_up=seed % 3)) as asker,
                Batch(asker, requests, output=tmp_path, fsync=False) as batch,
            ):
                await some(batch, chance.randrange(40))
                for _ in range(chance.randrange(300)):
                    await asyncio.sleep(0)
            await gateway.settled()
            summaries.append(batch.summary)
            accounts = Accounts.of(gateway.ledger, tmp_path)
            check_all_listed(accounts, requests)
            check_summaries(accounts, summaries)


async def some(batch: Batch, count: int) -> None:
    """Take up to so many outcomes."""
    while count and await anext(batch, None) is not None:
        count -= 1
