"""Sends these tests' requests to a sandbox with plain aiohttp, without the client's code."""

from __future__ import annotations

import base64
import io
import json
from typing import TYPE_CHECKING, Any

import aiohttp
import attrs
from multidict import CIMultiDictProxy

if TYPE_CHECKING:
    from imagen_async.sandbox import SandboxGateway

BODY = {"model": "imagen-3.0-generate-001", "prompt": "A cute baby sea otter"}


@attrs.frozen
class Reply:
    """One response, read whole."""

    status: int
    headers: CIMultiDictProxy[str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def images(self) -> list[bytes]:
        return [base64.b64decode(item["b64_json"], validate=True) for item in self.json["data"]]


async def ask(gateway: SandboxGateway, **fields: Any) -> Reply:
    """Post a good request, with `fields` on top of it."""
    return await post(gateway, json.dumps({**BODY, **fields}).encode())


async def post(gateway: SandboxGateway, body: bytes, *, headers: dict[str, str] | None = None) -> Reply:
    """Post any body, with `headers` on top of the contract's."""
    sent = {"Authorization": f"Bearer {gateway.api_key}", "Content-Type": "application/json", **(headers or {})}
    async with (
        aiohttp.ClientSession() as session,
        session.post(gateway.base_url + "/images/generations", data=io.BytesIO(body), headers=sent) as response,
    ):
        return Reply(response.status, response.headers, await response.read())


class FakeTime:
    """A clock that a sleep advances immediately."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
