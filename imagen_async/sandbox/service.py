"""What happens to one request at the generations endpoint, from its headers to the ledger's last line.

Checks, limits, fault, work, bill, answer: in this order, and the bill is in the ledger before the first byte of
the answer leaves. Sockets and the server's life are the gateway's.
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
from imagen_async.sandbox.limits import RequestLimits, TurnedAway
from imagen_async.sandbox.responses import SandboxResponse, error_answer, fault_answer, good_answer, image_answer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from imagen_async.sandbox.pictures import Picture, PictureShop
    from imagen_async.sandbox.settings import SandboxOptions

__all__ = ["REQUEST_ID", "Service", "error_response"]

REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
LONGEST_BODY = 1024 * 1024


def error_response(refusal: Refusal) -> web.Response:
    """Return a refusal as aiohttp sends it."""
    return web.Response(status=refusal.status, body=refusal.body(), content_type="application/json")


class Service:
    """Serves generations.

    Args:
        options: How to behave.
        ledger: Where every request is entered.
        pictures: Where images come from.
    """

    def __init__(self, options: SandboxOptions, ledger: Ledger, pictures: PictureShop) -> None:
        self._options = options
        self._ledger = ledger
        self._pictures = pictures
        self._plan = FaultPlan(options.fault_rates, seed=options.seed, per_body=options.faults_per_body)
        self.gate = RequestLimits(rpm=options.rpm, max_concurrent=options.max_concurrent, clock=options.clock)
        self.requests = 0

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """SandboxResponse one request."""
        self.requests += 1
        entry = LedgerEntry(
            ordinal=self.requests,
            at=self._options.wall_clock(),
            request_id=request[REQUEST_ID],
            idempotency_key=request.headers.get("Idempotency-Key"),
        )
        order = await self._order(request)
        if isinstance(order, Refusal):
            return await self._deliver(request, entry, error_answer(order))
        entry = attrs.evolve(entry, model=order.model, prompt=order.prompt, n=order.n)
        if (turned_away := self.gate.admit()) is not None:
            return await self._deliver(request, entry, self._too_many(turned_away))
        try:
            return await self._serve(request, entry, order)
        finally:
            self.gate.leave()

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
            await self._work(draw)
        answer = await self._answer(entry.request_id, order, draw)
        if fault is not None:
            entry = attrs.evolve(entry, fault=fault.name)
        return await self._deliver(request, attrs.evolve(entry, billed=_billed(fault, order, answer)), answer)

    async def _work(self, draw: Draw) -> None:
        seconds = draw.chance.uniform(*self._options.latency)
        if seconds > 0:
            await self._options.sleep(seconds)

    async def _answer(self, request_id: str, order: Order, draw: Draw) -> SandboxResponse:
        fault = draw.fault
        if fault is not None and (answer := fault_answer(fault, order, request_id)) is not None:
            return attrs.evolve(answer, headers=self._retry_after(None)) if fault.name == "429" else answer
        pictures = await self._take(request_id, order, fault)
        created = int(self._options.wall_clock())
        if fault is None:
            return good_answer(pictures, created)
        make = functools.partial(image_answer, fault, order, pictures, created=created, chance=draw.chance)
        # Respelling megabytes is too long for the event loop.
        return await self._pictures.run(make)

    async def _take(self, request_id: str, order: Order, fault: Fault | None) -> list[Picture]:
        name = fault.name if fault is not None else ""
        plates = await self._pictures.plates(
            order.prompt,
            order.n,
            aspect_ratio=order.aspect_ratio,
            output_format=_FORMATS.get(name, {}).get(order.output_format, order.output_format),
        )
        return [
            (plate.marked_for_padding if name == "odd-wrapping:no-padding" else plate.marked)(
                prompt=order.prompt, index=index, request_id=request_id
            )
            for index, plate in enumerate(plates)
        ]

    async def _deliver(self, request: web.Request, entry: LedgerEntry, answer: SandboxResponse) -> web.StreamResponse:
        delivery = Delivery(
            request=request,
            answer=answer,
            request_id=entry.request_id,
            sleep=self._options.sleep,
            slow_s=self._options.slow_s,
            stall_s=self._options.stall_s,
        )
        entry = attrs.evolve(entry, status=None if entry.fault == "disconnect" else answer.status)
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

    def _too_many(self, turned_away: TurnedAway) -> SandboxResponse:
        refusal = Refusal(
            status=429,
            message=f"Rate limit reached: {printable(turned_away.reason)}.",
            type="rate_limit_error",
            code="rate_limit_exceeded",
        )
        return error_answer(refusal, headers=self._retry_after(turned_away.wait_s))

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


def _billed(fault: Fault | None, order: Order, answer: SandboxResponse) -> int:
    if fault is None or fault.billed == "asked":
        return order.n
    return answer.images if fault.billed == "sent" else 0


def new_request_id() -> str:
    """Return an id that no other gateway on the same ledger has given."""
    return f"sandbox-{uuid.uuid4().hex}"
