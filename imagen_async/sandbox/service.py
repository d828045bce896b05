"""Handles one request to the generations endpoint, from its headers to the last line in the ledger.

The order is: contract, limits, fault, processing, bill, response. The bill is in the ledger before the first byte of
the response is sent.
"""

from __future__ import annotations

import functools
import hashlib
import math
import uuid
from typing import TYPE_CHECKING

import attrs
from aiohttp import web

from imagen_async.exceptions import printable
from imagen_async.sandbox.contract import Order, Refusal, read_order, refuse_content_type, refuse_key
from imagen_async.sandbox.delivery import Delivery
from imagen_async.sandbox.faults import Draw, Fault, FaultPlan
from imagen_async.sandbox.ledger import Ledger, LedgerEntry
from imagen_async.sandbox.limits import OverLimit, RequestLimits
from imagen_async.sandbox.responses import (
    SandboxResponse,
    error_response,
    fault_response,
    image_response,
    valid_response,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagen_async.sandbox.pictures import Picture, PictureShop
    from imagen_async.sandbox.settings import SandboxOptions

__all__ = ["REQUEST_ID", "Service", "refused"]

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
LONGEST_BODY = 1024 * 1024


def refused(refusal: Refusal) -> web.Response:
    """Return aiohttp's response for a refusal."""
    return web.Response(status=refusal.status, body=refusal.body(), content_type="application/json")


class Service:
    """Handles requests for generations.

    Args:
        options: The gateway's options.
        ledger: Records every request.
        pictures: Makes the images.
    """

    def __init__(self, options: SandboxOptions, ledger: Ledger, pictures: PictureShop) -> None:
        self._options = options
        self._ledger = ledger
        self._pictures = pictures
        self._plan = FaultPlan(options.fault_rates, seed=options.seed, per_body=options.faults_per_body)
        self.limits = RequestLimits(rpm=options.rpm, max_concurrent=options.max_concurrent, clock=options.clock)
        self.requests = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Respond to one request."""
        self.requests += 1
        entry = LedgerEntry(
            ordinal=self.requests,
            at=self._options.wall_clock(),
            request_id=request[REQUEST_ID],
            idempotency_key=request.headers.get("Idempotency-Key"),
        )
        order = await self._order(request)
        if isinstance(order, Refusal):
            return await self._deliver(request, entry, error_response(order))
        entry = attrs.evolve(entry, model=order.model, prompt=order.prompt, n=order.n)
        if (over := self.limits.admit()) is not None:
            return await self._deliver(request, entry, self._too_many(over))
        try:
            return await self._serve(request, entry, order)
        finally:
            self.limits.leave()

    async def _order(self, request: web.Request) -> Order | Refusal:
        refusal = refuse_key(request.headers.get("Authorization"), self._options.api_key)
        refusal = refusal or refuse_content_type(request.content_type)
        if refusal is not None:
            return refusal
        try:
            body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return Refusal(status=413, message=f"The body is longer than {LONGEST_BODY} bytes.")
        return read_order(body, self._options.models, unknown_model_status=self._options.unknown_model_status)

    async def _serve(self, request: web.Request, entry: LedgerEntry, order: Order) -> web.StreamResponse:
        draw = self._plan.draw(hashlib.blake2b(await request.read(), digest_size=8).digest())
        fault = draw.fault
        if fault is None or fault.works:
            await self._process(draw)
        response = await self._response(entry.request_id, order, draw)
        if fault is not None:
            entry = attrs.evolve(entry, fault=fault.name)
        return await self._deliver(request, attrs.evolve(entry, billed=_billed(fault, order, response)), response)

    async def _process(self, draw: Draw) -> None:
        seconds = draw.chance.uniform(*self._options.latency)
        if seconds > 0:
            await self._options.sleep(seconds)

    async def _response(self, request_id: str, order: Order, draw: Draw) -> SandboxResponse:
        fault = draw.fault
        if fault is not None and (response := fault_response(fault, order, request_id)) is not None:
            return attrs.evolve(response, headers=self._retry_after(None)) if fault.name == "429" else response
        pictures = await self._images(request_id, order, fault)
        created = int(self._options.wall_clock())
        if fault is None:
            return valid_response(pictures, created)
        make = functools.partial(image_response, fault, order, pictures, created=created, chance=draw.chance)
        # Changing megabytes of base64 takes too long for the event loop.
        return await self._pictures.run(make)

    async def _images(self, request_id: str, order: Order, fault: Fault | None) -> list[Picture]:
        name = fault.name if fault is not None else ""
        plates = await self._pictures.plates(
            order.prompt,
            order.n,
            aspect_ratio=order.aspect_ratio,
            output_format=_FORMATS.get(name, {}).get(order.output_format, order.output_format),
        )
        return [
            (plate.stamped_for_padding if name == "odd-wrapping:no-padding" else plate.stamped)(
                prompt=order.prompt, index=index, request_id=request_id
            )
            for index, plate in enumerate(plates)
        ]

    async def _deliver(self, request: web.Request, entry: LedgerEntry, response: SandboxResponse) -> web.StreamResponse:
        delivery = Delivery(
            request=request,
            response=response,
            request_id=entry.request_id,
            sleep=self._options.sleep,
            slow_s=self._options.slow_s,
            stall_s=self._options.stall_s,
        )
        entry = attrs.evolve(entry, status=None if entry.fault == "disconnect" else response.status)
        self._ledger.record(entry)
        try:
            return await delivery.run()
        finally:
            self._close_entry(attrs.evolve(entry, sent=delivery.images))

    def _close_entry(self, entry: LedgerEntry) -> None:
        if entry.sent:
            self._ledger.record(entry)
        if self._options.on_request is not None:
            self._options.on_request(entry)

    def _too_many(self, over: OverLimit) -> SandboxResponse:
        refusal = Refusal(
            status=429,
            message=f"Rate limit reached: {printable(over.reason)}.",
            type="rate_limit_error",
            code="rate_limit_exceeded",
        )
        return error_response(refusal, headers=self._retry_after(over.wait_s))

    def _retry_after(self, wait_s: float | None) -> Mapping[str, str]:
        asked = self._options.retry_after
        if asked is None:
            return {}
        seconds = max(1, math.ceil(wait_s or 0)) if isinstance(asked, str) else asked
        return {"Retry-After": f"{seconds:.10g}"}


_FORMATS: Mapping[str, Mapping[str, str]] = {
    "wrong-format": {"png": "jpeg", "jpeg": "png"},
    "webp": {"png": "webp", "jpeg": "webp"},
}


def _billed(fault: Fault | None, order: Order, response: SandboxResponse) -> int:
    if fault is None or fault.billed == "asked":
        return order.n
    return response.images if fault.billed == "sent" else 0


def new_request_id() -> str:
    """Return a request id that is unique among all gateways that share a ledger."""
    return f"sandbox-{uuid.uuid4().hex}"
