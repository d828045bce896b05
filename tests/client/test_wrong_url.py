"""A 404 that is not about a model: a wrong base URL if nothing has ever succeeded, otherwise a failed job."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from imagen_async import Batch, EndpointNotFoundError, ImagenClient, ImageRequest, ModelNotFoundError, RejectedError
from imagen_async.batch.journal import read_status
from imagen_async.outcome import Outcome, Status
from tests.clients import KEY
from tests.pictures import png
from tests.servers import Asked, Server, body_of, reply, serving

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

GOOD = reply(body_of(png()))
NOT_FOUND = {
    "json": reply(b'{"error":{"message":"Invalid URL (POST /images/generations)"}}', status=404),
    "html": reply(b"<html><h1>Not Found</h1></html>", status=404),
    "no body": reply(b"", status=404),
    "method": reply(b"<html>405 Not Allowed</html>", status=405),
}
PROMPTS = [f"fox {number}" for number in range(40)]


def asking(server: Server) -> ImagenClient:
    return ImagenClient(KEY, server.base_url, max_concurrency=1)


async def all_of(outcomes: AsyncIterator[Outcome], seen: list[Outcome]) -> None:
    async for outcome in outcomes:
        seen.append(outcome)  # noqa: PERF401 - it raises on the way


@pytest.mark.parametrize("kind", NOT_FOUND)
async def test_before_any_success_a_404_stops_a_stream_and_names_the_url(kind: str) -> None:
    async def handle(_: Asked, writer: Any) -> None:
        writer.write(NOT_FOUND[kind])

    seen: list[Outcome] = []
    async with serving(handle) as server, asking(server) as client:
        with pytest.raises(EndpointNotFoundError) as caught:
            async with client.stream(PROMPTS) as outcomes:
                await all_of(outcomes, seen)
        assert len(server.asked) == 1
        assert f"no POST at {server.base_url}/images/generations: check the base URL" in str(caught.value)
    assert seen == []


async def test_after_a_success_a_404_fails_its_job_only() -> None:
    async def handle(asked: Asked, writer: Any) -> None:
        writer.write(NOT_FOUND["json"] if asked.json["prompt"] == "fox 7" else GOOD)

    seen: list[Outcome] = []
    async with serving(handle) as server, asking(server) as client, client.stream(PROMPTS) as outcomes:
        await all_of(outcomes, seen)
    (failed,) = [outcome for outcome in seen if not outcome.ok]
    assert len(seen) == len(PROMPTS)
    assert (failed.status, type(failed.error)) == (Status.FAILED, RejectedError)


async def test_an_unknown_model_does_not_mean_a_wrong_url() -> None:
    async def handle(_: Asked, writer: Any) -> None:
        writer.write(reply(b'{"error":{"message":"no","code":"model_not_found"}}', status=404))

    async with serving(handle) as server, asking(server) as client:
        with pytest.raises(ModelNotFoundError):
            await client.generate("a fox")


@pytest.mark.parametrize("kind", NOT_FOUND)
async def test_a_batch_that_stops_for_a_404_goes_on_with_the_right_url(kind: str, tmp_path: Path) -> None:
    rows = [ImageRequest(prompt, id=prompt.replace(" ", "-")) for prompt in PROMPTS]
    right = False

    async def handle(_: Asked, writer: Any) -> None:
        writer.write(GOOD if right else NOT_FOUND[kind])

    seen: list[Outcome] = []
    async with serving(handle) as server:
        async with asking(server) as client:
            with pytest.raises(EndpointNotFoundError):
                async with Batch(client, rows, output=tmp_path, fsync=False) as batch:
                    await all_of(batch, seen)
        assert (seen, len(server.asked)) == ([], 1)
        assert read_status(tmp_path / ".imagen").jobs["failed"] == 0
        right = True
        async with asking(server) as client, Batch(client, rows, output=tmp_path, fsync=False) as batch:
            await all_of(batch, seen)
    assert [outcome.status for outcome in seen] == [Status.SUCCEEDED] * len(rows)
