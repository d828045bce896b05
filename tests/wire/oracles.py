"""What the decoder and the completion have to agree with: plain readings of whole bodies and documents."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import attrs

from imagen_async.wire.base64 import Base64Decoder
from imagen_async.wire.decoder import Decoder, Event, Payload, PayloadStart

__all__ = ["Verdict", "begins", "stream", "verdict_of_oracle", "whole_body_oracle"]

Verdict = tuple[bytes | None, ...]


def whole_body_oracle(body: bytes) -> Verdict:
    """What `json.loads` and base64 on the whole body say: the images in order, None for an item without one.

    Raises ValueError for a body that is to be refused.
    """
    body = re.sub(rb"\A(?:[ \t\r\n]*:[^\n]*\n)*", b"", body.removeprefix(b"\xef\xbb\xbf"))
    text = body.decode("utf-8")
    document = json.loads(text, strict=False, object_pairs_hook=_without_doubled_keys)
    if not isinstance(document, dict) or not isinstance(document.get("data"), list):
        raise ValueError("no data")  # noqa: TRY004 - one kind of refusal is enough here
    return tuple(_oracle_image(item) for item in document["data"])


def _without_doubled_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for key in ("data", "error", "b64_json", "url"):
        if sum(name == key for name, _ in pairs) > 1:
            raise ValueError(key)
    return dict(pairs)


def _oracle_image(item: Any) -> bytes | None:
    if item is None:
        return None
    text, link = item.get("b64_json"), item.get("url")
    if text is not None and not isinstance(text, str):
        raise ValueError("b64_json")
    if not text:
        if link is None or link == "":
            return None
        if not isinstance(link, str) or not link[:5].lower() == "data:":
            raise ValueError("url")
        text = link
    return _oracle_base64(text)


def _oracle_base64(text: str) -> bytes:
    text = re.sub(r"\A[ \t\r\n]*data:[ -+\--~]{0,255};base64,", "", text, flags=re.IGNORECASE)
    text = re.sub(r"[ \t\r\n]", "", text).replace("-", "+").replace("_", "/")
    if "=" not in text:
        text += "=" * (-len(text) % 4)
    data = base64.b64decode(text.encode("ascii"), validate=True)
    if base64.b64encode(data).decode() != text:
        raise ValueError("not canonical")
    return data


def stream(chunks: list[bytes], decoder: Decoder | None = None, *, memory: bytearray | None = None) -> Verdict:
    """Run the chunks through the decoder as a client does; each out of the same memory, if there is some."""
    decoder = decoder or Decoder(max_payloads=64)
    payloads: dict[int, list[Payload]] = {}
    for chunk in chunks:
        for event in decoder.feed(chunk) if memory is None else _fed_from(memory, chunk, decoder):
            if isinstance(event, PayloadStart):
                payloads[event.hole] = []
            elif isinstance(event, Payload):
                payloads[event.hole].append(event)
    document = decoder.close()
    for item in document.items:
        if item.fault is not None:
            raise item.fault
    return tuple(None if item.hole is None else _decoded(payloads[item.hole]) for item in document.items)


def _fed_from(memory: bytearray, chunk: bytes, decoder: Decoder) -> list[Event]:
    """Feed a chunk out of memory in which nothing of it is left afterwards."""
    memory[: len(chunk)] = chunk
    events = [
        attrs.evolve(event, data=bytes(event.data)) if isinstance(event, Payload) else event
        for event in decoder.feed(memory, len(chunk))
    ]
    memory[:] = b"\xff" * len(memory)
    return events


def _decoded(spans: list[Payload]) -> bytes:
    decoder = Base64Decoder(0)
    parts = [part for span in spans for part in decoder.decode(span)]
    return b"".join([*parts, *decoder.flush()])


def verdict_of_oracle(body: bytes) -> Verdict | None:
    try:
        return whole_body_oracle(body)
    except (ValueError, AttributeError, RecursionError):
        return None


def begins(part: Any, whole: Any) -> bool:
    """Whether `part` is `whole` up to some place, its last value null if that was cut."""
    if isinstance(part, list) and isinstance(whole, list):
        return len(part) <= len(whole) and part[:-1] == whole[: max(0, len(part) - 1)] and _last_begins(part, whole)
    if isinstance(part, dict) and isinstance(whole, dict):
        names = list(part)
        same = all(part[name] == whole[name] for name in names[:-1])
        return names == list(whole)[: len(names)] and same and all(begins(part[n], whole[n]) for n in names[-1:])
    return part is None or part == whole


def _last_begins(part: list[Any], whole: list[Any]) -> bool:
    return not part or begins(part[-1], whole[len(part) - 1])
