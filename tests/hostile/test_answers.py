"""Every hostile response of the table, over a real socket, through the client and through a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from imagen_async import Batch, ImageRequest, Outcome, Status
from imagen_async.batch.journal import read_status
from imagen_async.exceptions import FailureClass
from tests.batch.running import errors, files, metadata, strays
from tests.hostile.attacking import ATTACKED, FOX, OWL, answered, asking, check, hostile_gateway, passing
from tests.hostile.bodies import ASKED, FIRST, SECOND
from tests.hostile.cases import CASES, FINE, SLOW, Case

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers import Server

EVERY = {**CASES, **SLOW}
AMBIGUOUS = {name: case for name, case in CASES.items() if case.failure is FailureClass.AMBIGUOUS}
GOOD = [FIRST, SECOND]


@pytest.mark.parametrize("name", EVERY)
async def test_a_hostile_response_is_a_typed_error_and_the_client_continues(name: str) -> None:
    case = EVERY[name]
    async with hostile_gateway(case.said) as server, asking(server) as client:
        async with passing(case.step, once=lambda: bool(server.asked)):
            kept, error = await answered(client, FOX)
        check(error, case)
        assert kept == GOOD[: case.kept]
        assert [attempt.failure for attempt in (error.attempts if error else ())] == [case.failure] * bool(case.failure)
        assert client.limiter.in_flight == 0
        assert await answered(client, OWL) == (GOOD, None)


@pytest.mark.parametrize("name", AMBIGUOUS)
async def test_by_default_a_hostile_response_is_requested_once_more(name: str) -> None:
    case = AMBIGUOUS[name]
    async with hostile_gateway(case.said, times=1) as server, asking(server, retry=None) as client:
        outcome = await client.generate(FOX, n=ASKED)
    assert outcome.status is Status.SUCCEEDED
    assert [image.data for image in outcome.images] == GOOD
    assert [attempt.doubtful for attempt in outcome.attempts] == [ASKED - case.kept]
    assert [asked.json["n"] for asked in server.asked] == [ASKED, ASKED - case.kept or ASKED]


async def run(server: Server, folder: Path, step: float = 0.0) -> dict[str, Outcome]:
    """Run a batch of three jobs, and return their outcomes by prompt."""
    requests = [ImageRequest(prompt, n=ASKED, id=prompt.split()[-1]) for prompt in ATTACKED]
    async with (
        asking(server) as client,
        Batch(client, requests, output=folder, fsync=False) as batch,
        passing(step, once=lambda: batch.progress.done == len(ATTACKED) - 1),
    ):
        return {outcome.request.prompt: outcome async for outcome in batch}


def contents(folder: Path) -> dict[str, list[bytes]]:
    """The files of a folder by id, each of which has its line, in the order of their index."""
    told = metadata(folder)
    assert {line["file_name"] for line in told} == files(folder)
    assert len(told) == len(files(folder))
    found: dict[str, list[bytes]] = {}
    for line in sorted(told, key=lambda line: line["index"]):
        found.setdefault(line["id"], []).append((folder / line["file_name"]).read_bytes())
    return found


@pytest.mark.parametrize("name", EVERY)
async def test_in_a_batch_a_hostile_response_harms_its_own_job_only(name: str, tmp_path: Path) -> None:
    case = EVERY[name]
    async with hostile_gateway(case.said) as server:
        outcomes = await run(server, tmp_path, case.step)
    outcome = outcomes.pop(FOX)
    assert [other.status for other in outcomes.values()] == [Status.SUCCEEDED] * 2
    check(outcome.error, case)
    assert outcome.status is case.status
    assert len(outcome.images) == case.kept
    assert contents(tmp_path) == {"owl": GOOD, "whale": GOOD, **({"fox": GOOD[: case.kept]} if case.kept else {})}
    assert strays(tmp_path) == []
    check_books(case, outcome, tmp_path)


def check_books(case: Case, outcome: Outcome, folder: Path) -> None:
    """The journal and ``errors.jsonl`` list the request in doubt as the money rules demand."""
    lost = ASKED - case.kept if case.failure is FailureClass.AMBIGUOUS else 0
    totals = read_status(folder / ".imagen")
    assert (totals.doubts, totals.doubtful_images, totals.unanswered.requests) == (bool(lost), lost, 0)
    assert totals.jobs[case.status] == 1
    (line,) = errors(folder)
    assert (line["id"], line["status"], line["images"]) == ("fox", case.status, case.kept)
    assert (line["error"], line["message"]) == (case.error.__name__, str(outcome.error))
    assert line.get("check") == case.check
    assert line.get("offset") == getattr(outcome.error, "offset", None)
    assert [doubt["images"] for doubt in line.get("doubts", [])] == [lost] * bool(lost)


@pytest.mark.parametrize("name", FINE)
async def test_a_complete_image_is_accepted_in_any_wrapping(name: str, tmp_path: Path) -> None:
    async with hostile_gateway(FINE[name]) as server:
        outcomes = await run(server, tmp_path)
    assert [outcome.status for outcome in outcomes.values()] == [Status.SUCCEEDED] * 3
    assert all(not outcome.attempts for outcome in outcomes.values())
    assert contents(tmp_path) == {"owl": GOOD, "fox": GOOD, "whale": GOOD}
    assert errors(tmp_path) == []
