"""Composes responses: valid ones, refusals, and those of faults.

An order, its pictures and a fault become a `SandboxResponse`, which `delivery` sends. The forms are those observed from
gateways of this family.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping, Sequence
from enum import Enum
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs
import pybase64

from imagen_async.exceptions import printable
from imagen_async.sandbox.bodies import WRAPPERS, Body, BodyItem, image_item, json_body, url_item
from imagen_async.sandbox.contract import Order, Refusal
from imagen_async.sandbox.pictures import Picture

if TYPE_CHECKING:
    from imagen_async.sandbox.faults import Fault

__all__ = ["Manner", "SandboxResponse", "error_response", "fault_response", "image_response", "valid_response"]


class Manner(Enum):
    """How a response is sent."""

    WHOLE = "whole"
    TRUNCATED = "truncate"
    TRUNCATED_CLOSE = "truncate-close"
    TRUNCATED_CHUNKED = "truncate-chunked"
    DISCONNECT = "disconnect"
    SLOW = "slow"
    STALL = "stall"


@attrs.frozen(kw_only=True)
class SandboxResponse:
    """One response, ready to be sent.

    Attributes:
        status: HTTP status.
        body: Its body.
        images: Number of images in it that are billed as sent.
        content_type: Its media type.
        headers: Further headers.
        manner: How it is sent.
    """

    status: int = 200
    body: Body = attrs.field(factory=Body)
    images: int = 0
    content_type: str = "application/json"
    headers: Mapping[str, str] = MappingProxyType({})
    manner: Manner = Manner.WHOLE


@attrs.frozen(kw_only=True)
class _Making:
    """What a response with status 200 is composed from."""

    order: Order
    pictures: Sequence[Picture]
    created: int
    chance: random.Random

    @property
    def items(self) -> list[BodyItem]:
        return [image_item(picture.base64) for picture in self.pictures]


def valid_response(pictures: Sequence[Picture], created: int) -> SandboxResponse:
    """Return the response of the contract."""
    body = json_body([image_item(picture.base64) for picture in pictures], created)
    return SandboxResponse(body=body, images=len(pictures))


def error_response(refusal: Refusal, *, headers: Mapping[str, str] | None = None) -> SandboxResponse:
    """Return the response for a refusal."""
    return SandboxResponse(status=refusal.status, body=Body((refusal.body(),)), headers=headers or {})


def fault_response(fault: Fault, order: Order, request_id: str) -> SandboxResponse | None:
    """Return the response of a fault without images, or None for a fault with images."""
    if (refusal := _refusal(fault.name, order, request_id)) is not None:
        return error_response(refusal)
    if (page := _PAGES.get(fault.name)) is not None:
        status, text = page
        return SandboxResponse(status=status, body=Body((text.encode(),)), content_type="text/html")
    if fault.name == "400-blocked":
        return SandboxResponse(status=400, body=Body((json.dumps(_BLOCKED).encode(),)))
    return None


def image_response(
    fault: Fault, order: Order, pictures: Sequence[Picture], *, created: int, chance: random.Random
) -> SandboxResponse:
    """Return the response of a fault with images.

    Args:
        fault: The fault.
        order: The request's fields.
        pictures: The images, in the format that the fault asks for.
        created: The response's timestamp.
        chance: Random numbers to draw a variant with, for faults that have several.
    """
    kind, _, variant = fault.name.partition(":")
    if kind == "odd-wrapping":
        headers = {"Content-Encoding": "gzip"} if variant == "gzip" else {}
        return SandboxResponse(body=WRAPPERS[variant](pictures, created), images=len(pictures), headers=headers)
    making = _Making(order=order, pictures=pictures, created=created, chance=chance)
    if (spoil := _SPOILERS.get(kind)) is not None:
        return spoil(making)
    response = valid_response(pictures, created)
    return attrs.evolve(response, manner=Manner(kind)) if kind in _MANNERS else response


def _refusal(name: str, order: Order, request_id: str) -> Refusal | None:
    make = _REFUSALS.get(name)
    return None if make is None else make(printable(order.model, 80), request_id)


def _upstream(status: int, message: str, *, code: str | None = None) -> Callable[[str, str], Refusal]:
    def make(model: str, request_id: str) -> Refusal:
        text = f"{message.format(model=model)} (request id: {request_id})"
        return Refusal(status=status, message=text, type="new_api_error", param="", code=code)

    return make


_REFUSALS: Mapping[str, Callable[[str, str], Refusal]] = {
    "429": _upstream(429, "Too many requests for {model}, slow down", code="rate_limit_exceeded"),
    "401": _upstream(401, "This token has expired", code="invalid_api_key"),
    "403": _upstream(403, "The quota of this user is used up", code="insufficient_user_quota"),
    "500": _upstream(500, "The worker for {model} crashed", code="do_request_failed"),
    "503": _upstream(503, "The upstream of {model} is overloaded"),
    "503-model-not-found": _upstream(503, "No available channel for model {model}", code="model_not_found"),
    "504": _upstream(504, "The upstream of {model} did not answer in time", code="bad_response_status_code"),
    "error-in-200": _upstream(200, "Image generation with {model} failed", code="upstream_error"),
}

_BLOCKED = {
    "error": {
        "code": 400,
        "message": "Image generation failed with the following error: The prompt could not be submitted. This "
        "prompt contains sensitive words that violate the Responsible AI practices. Try rephrasing the prompt. "
        "Support codes: 58061214",
        "status": "INVALID_ARGUMENT",
    }
}

_PAGE = (
    "<html>\r\n<head><title>{0}</title></head>\r\n<body>\r\n<center><h1>{0}</h1></center>\r\n"
    "<hr><center>{1}</center>\r\n</body>\r\n</html>\r\n"
)

_PAGES: Mapping[str, tuple[int, str]] = {
    "502-html": (502, _PAGE.format("502 Bad Gateway", "nginx/1.24.0")),
    "524-html": (524, "<!DOCTYPE html>\n" + _PAGE.format("524: A timeout occurred", "cloudflare")),
    "html-in-200": (200, "<!DOCTYPE html>\n" + _PAGE.format("Checking your browser", "cloudflare")),
}

_MANNERS = frozenset(manner.value for manner in Manner) - {"whole"}


def _of_items(making: _Making, items: Sequence[BodyItem], **others: object) -> SandboxResponse:
    return SandboxResponse(body=json_body(items, making.created, **others), images=sum(item.valid for item in items))


def _empty(making: _Making) -> SandboxResponse:
    return _of_items(making, [])


def _filtered(making: _Making) -> SandboxResponse:
    shapes: list[list[object]] = [[], [{}], [{"b64_json": None, "url": None}], [{"raiFilteredReason": _REASON}]]
    return _of_items(making, [BodyItem.of(value) for value in making.chance.choice(shapes)])


_REASON = (
    "Unable to show generated images. All images were filtered out because they violated the usage guidelines. "
    "Support codes: 39322892"
)


def _short(making: _Making) -> SandboxResponse:
    fewer = making.chance.randrange(1, making.order.n) if making.order.n > 1 else 0
    return _of_items(making, making.items[:fewer])


def _last_as(make: Callable[[Picture], BodyItem]) -> Callable[[_Making], SandboxResponse]:
    def spoil(making: _Making) -> SandboxResponse:
        return _of_items(making, [*making.items[:-1], make(making.pictures[-1])])

    return spoil


def _encoded(data: bytes) -> BodyItem:
    return image_item((pybase64.b64encode(data),), valid=False)


def _corrupt(picture: Picture) -> BodyItem:
    text = b"".join(picture.base64)
    middle = len(text) // 2
    return image_item((text[:middle], b"!*~!", text[middle + 4 :]), valid=False)


def _endless(picture: Picture) -> BodyItem:
    data = picture.data()
    # PNG: the 12 bytes of IEND. JPEG: the 2 bytes of EOI.
    return _encoded(data[: -12 if data.startswith(b"\x89PNG") else -2])


def _url(making: _Making) -> SandboxResponse:
    links = [{"url": f"https://images.invalid/{making.created}/{index}"} for index in range(making.order.n)]
    return _of_items(making, [BodyItem.of(link) for link in links])


def _data_url(making: _Making) -> SandboxResponse:
    return _of_items(making, [url_item(picture, making.order.output_format) for picture in making.pictures])


_SPOILERS: Mapping[str, Callable[[_Making], SandboxResponse]] = {
    "empty-200": _empty,
    "filtered": _filtered,
    "short": _short,
    "null-image": _last_as(lambda _: BodyItem.of({"b64_json": None})),
    "corrupt-base64": _last_as(_corrupt),
    "not-an-image": _last_as(lambda _: _encoded(b"The image could not be rendered; please try again later.\n" * 4)),
    "no-iend": _last_as(_endless),
    "url-in-200": _url,
    "data-url-in-200": _data_url,
}
