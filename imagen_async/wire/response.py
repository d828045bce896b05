"""What the document around the images says: which payload is which image, and what the gateway tells of each.

Pure: takes the parsed skeleton of a 200 and gives an `ResponseDocument`, or the name of the check that failed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async.exceptions import ProtocolError, printable
from imagen_async.wire.reasons import filter_reasons

if TYPE_CHECKING:
    from imagen_async._secrets import Mask

__all__ = ["PLACEHOLDER", "ImageEntry", "ResponseDocument", "read_answer"]

PLACEHOLDER = "data:hole-"
"""Stands in the skeleton for payload N as ``data:hole-N``.

It cannot be forged: at the two keys whose strings may be payloads, every string that begins with ``data:`` is one.
"""


@attrs.frozen
class ImageEntry:
    """One entry of ``data``.

    Attributes:
        hole: Which payload of the body is its image, or None where the gateway gave none.
        details: What else it says (``revised_prompt``, a filter's reason), without the payload.
        fault: Why its image cannot be taken though it is given (a link, no text), or None.
    """

    hole: int | None
    details: Mapping[str, Any]
    fault: ProtocolError | None = None


@attrs.frozen
class ResponseDocument:
    """A 200 that keeps the contract.

    Attributes:
        created: The gateway's time stamp, seconds since the epoch, or None.
        items: The entries of ``data``, in order; one without a payload and without a fault was filtered.
        reasons: Why images were filtered, in the gateway's words, made printable; no two alike.
    """

    created: int | None
    items: tuple[ImageEntry, ...]
    reasons: tuple[str, ...] = ()

    def masked(self, mask: Mask) -> ResponseDocument:
        """Return it without secrets; some gateways repeat the key."""
        if not self.reasons and not any(item.details for item in self.items):
            return self
        items = (attrs.evolve(item, details=mask.inside(item.details)) if item.details else item for item in self.items)
        return attrs.evolve(self, items=tuple(items), reasons=mask.inside(self.reasons))


def read_answer(document: Mapping[str, Any], empty: Collection[int] = ()) -> ResponseDocument:
    """Read the skeleton of an answer.

    Args:
        document: The skeleton, parsed.
        empty: Payloads that held no characters.

    Raises:
        ProtocolError: ``data`` is missing or not a list, or the body is an error object.
    """
    data = document.get("data")
    if data is None and document.get("error"):
        raise ProtocolError("error-object", f"an error in a 200: {_error_text(document['error'])}")
    if not isinstance(data, list):
        raise ProtocolError("data", "the answer has no list of images" if data is None else "data is not a list")
    created = document.get("created")
    return ResponseDocument(
        created=created if isinstance(created, int) and not isinstance(created, bool) else None,
        items=tuple(_item(index, entry, empty) for index, entry in enumerate(data)),
        reasons=filter_reasons(document),
    )


def _item(index: int, entry: object, empty: Collection[int]) -> ImageEntry:
    if not isinstance(entry, dict):
        odd = ProtocolError("item", "an entry of data is not an object", item=index)
        return ImageEntry(None, {}, None if entry is None else odd)
    details = {key: value for key, value in entry.items() if key not in {"b64_json", "url"} and value is not None}
    inline, link = entry.get("b64_json"), entry.get("url")
    if isinstance(inline, str) and (hole := _hole(inline)) not in empty:
        return ImageEntry(hole, details)
    if inline is not None and not isinstance(inline, str):
        return ImageEntry(None, details, ProtocolError("b64_json", "b64_json is not text", item=index))
    if link is None or link == "":
        return ImageEntry(None, details)
    if isinstance(link, str) and link.startswith(PLACEHOLDER):
        return ImageEntry(_hole(link), details)
    told = "the image is a link; only inline images are taken, nothing is fetched"
    return ImageEntry(None, details, ProtocolError("url", told, item=index))


def _hole(placeholder: str) -> int:
    return int(placeholder.removeprefix(PLACEHOLDER))


def _error_text(error: object) -> str:
    message = error.get("message", error) if isinstance(error, Mapping) else error
    return printable(str(message), 300)
