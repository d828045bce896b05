"""What the document around the images says: which payload is which image, and what the gateway says about each.

Pure: takes the parsed skeleton of a 200 and returns a `ResponseDocument`, or raises the check that failed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async.exceptions import ProtocolError, printable
from imagen_async.wire.reasons import filter_reasons

if TYPE_CHECKING:
    from imagen_async._secrets import Mask

__all__ = ["PLACEHOLDER", "ImageEntry", "ResponseDocument", "read_response", "request_id"]

PLACEHOLDER = "data:hole-"
"""Stands in the skeleton for payload N as ``data:hole-N``.

It cannot be forged: at the two keys whose strings may be payloads, every string that begins with ``data:`` is one.
"""

_WITHOUT_REASONS = frozenset({"created", "data"})
_REQUEST_ID_HEADERS = ("x-request-id", "X-Oneapi-Request-Id", "x-litellm-call-id")


@attrs.frozen
class ImageEntry:
    """One entry of ``data``.

    Attributes:
        hole: Number of the payload that is its image, or None if there is none.
        details: Its other fields (``revised_prompt``, the reason of a filter), without the payload.
        fault: Why its image cannot be used (a link, not text), or None.
    """

    hole: int | None
    details: Mapping[str, Any]
    fault: ProtocolError | None = None


@attrs.frozen
class ResponseDocument:
    """A 200 that keeps the contract.

    Attributes:
        created: The gateway's time stamp in seconds since the epoch, or None.
        items: The entries of ``data``, in order; an entry without a payload and without a fault was filtered.
        reasons: Why images were filtered, in the gateway's words, printable, without duplicates.
    """

    created: int | None
    items: tuple[ImageEntry, ...]
    reasons: tuple[str, ...] = ()

    def masked(self, mask: Mask) -> ResponseDocument:
        """Return the document without secrets; some gateways repeat the key."""
        if not self.reasons and not any(item.details for item in self.items):
            return self
        items = (attrs.evolve(item, details=mask.inside(item.details)) if item.details else item for item in self.items)
        return attrs.evolve(self, items=tuple(items), reasons=mask.inside(self.reasons))


def read_response(document: Mapping[str, Any], empty: Collection[int] = ()) -> ResponseDocument:
    """Read the parsed skeleton of a response.

    Args:
        document: The skeleton.
        empty: Payloads that held no characters.

    Raises:
        ProtocolError: ``data`` is missing or not a list, or the body is an error object.
    """
    data = document.get("data")
    if data is None and document.get("error"):
        raise ProtocolError("error-object", f"an error in a 200: {_error_text(document['error'])}")
    if not isinstance(data, list):
        raise ProtocolError("data", "the response has no list of images" if data is None else "data is not a list")
    items = tuple(_entry(index, entry, empty) for index, entry in enumerate(data))
    plain = document.keys() <= _WITHOUT_REASONS and not any(item.details for item in items)
    created = document.get("created")
    return ResponseDocument(
        created=created if isinstance(created, int) and not isinstance(created, bool) else None,
        items=items,
        reasons=() if plain else filter_reasons(document),
    )


def request_id(headers: Mapping[str, str]) -> str | None:
    """Return the gateway's id of a request, made printable."""
    for name in _REQUEST_ID_HEADERS:
        if found := headers.get(name):
            return printable(found, 128)
    return None


def _entry(index: int, entry: object, empty: Collection[int]) -> ImageEntry:
    if not isinstance(entry, dict):
        odd = ProtocolError("item", "an entry of data is not an object", item=index)
        return ImageEntry(None, {}, None if entry is None else odd)
    details = {key: value for key, value in entry.items() if key not in {"b64_json", "url"} and value is not None}
    inline, link = entry.get("b64_json"), entry.get("url")
    if isinstance(inline, str) and (hole := int(inline.removeprefix(PLACEHOLDER))) not in empty:
        return ImageEntry(hole, details)
    if inline is not None and not isinstance(inline, str):
        return ImageEntry(None, details, ProtocolError("b64_json", "b64_json is not text", item=index))
    if link is None or link == "":
        return ImageEntry(None, details)
    if isinstance(link, str) and link.startswith(PLACEHOLDER):
        return ImageEntry(int(link.removeprefix(PLACEHOLDER)), details)
    message = "the image is a link; only inline images are accepted, and nothing is fetched"
    return ImageEntry(None, details, ProtocolError("url", message, item=index))


def _error_text(error: object) -> str:
    message = error.get("message", error) if isinstance(error, Mapping) else error
    return printable(str(message), 300)
