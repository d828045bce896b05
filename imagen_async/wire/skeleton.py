"""The JSON document of a body without its images: parses a whole one, or completes one that broke off.

A whole skeleton gets exactly the verdict of `json.loads`. A skeleton that broke off is completed first: everything up
to the first fault is kept, open brackets are closed, and a value that may be cut becomes null. Pure.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from imagen_async.exceptions import ProtocolError, printable

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["completed", "read_begun", "read_whole"]

_DECIDING_KEYS = frozenset({"data", "error", "b64_json", "url"})

_TOKEN = re.compile(
    r"""[ \t\r\n]*+(?:
        (?P<text>"[^"\\]*+(?:\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})[^"\\]*+)*+")
        | (?P<scalar>(?:true|false|null|NaN|-?Infinity
            # Python refuses more digits, whatever its limit is set to.
            | -?(?:0|[1-9][0-9]{0,639}+)(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+)
            (?=[ \t\r\n,\]}]))  # without what ends it, a number may be half a number
        | (?P<mark>[{}\[\]:,])
    )""",
    re.VERBOSE,
)
_CLOSERS = {"{": "}", "[": "]"}
_AFTER = {
    **{
        (state, kind): after
        for state in ("value", "first value")
        for kind, after in {"text": "more", "scalar": "more", "[": "first value", "{": "first key"}.items()
    },
    ("first value", "]"): "more",
    ("first key", "text"): "colon",
    ("first key", "}"): "more",
    ("key", "text"): "colon",
    ("colon", ":"): "value",
    ("more", "]"): "more",
    ("more", "}"): "more",
    ("more", ","): "",
}
"""The next state by the current state and the token; after a comma the next state depends on the bracket."""
_MISSING = {"value": "null", "colon": ":null"}


def read_whole(skeleton: bytes, in_body: Callable[[int], int]) -> dict[str, Any]:
    """Parse a whole skeleton.

    Args:
        skeleton: Its bytes.
        in_body: Returns the body offset of a skeleton offset.

    Raises:
        ProtocolError: It is not a JSON object, or a key that decides about images occurs twice in one object.
    """
    try:
        text = skeleton.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("utf-8", error.reason, offset=in_body(error.start)) from None
    try:
        document = _READER.decode(text)
    except json.JSONDecodeError as error:
        check = "truncated" if error.pos >= len(text.rstrip()) else "json"
        raise ProtocolError(check, error.msg, offset=in_body(_bytes_before(text, error.pos))) from None
    except ProtocolError as error:
        if error.check == "duplicate-key" and (place := _second(text)) is not None:
            error.offset = in_body(_bytes_before(text, place))
        raise
    except (RecursionError, ValueError) as error:  # a number of thousands of digits is a ValueError
        raise ProtocolError("json", printable(str(error)), offset=in_body(0)) from None
    if not isinstance(document, dict):
        raise ProtocolError("json", "the body is not a JSON object", offset=in_body(0))
    return document


def read_begun(skeleton: bytes) -> dict[str, Any]:
    """Parse a skeleton that broke off or has a fault, up to there.

    Raises:
        ProtocolError: It does not begin an object, or a key that decides about images occurs twice in one object.
    """
    try:
        text = skeleton.decode("utf-8")
    except UnicodeDecodeError as error:
        text = skeleton[: error.start].decode("utf-8")
    document = _READER.decode(completed(text))
    if not isinstance(document, dict):
        raise ProtocolError("json", "the body is not a JSON object", offset=0)
    return document


def completed(text: str) -> str:
    r"""Complete the beginning of a document, up to its end or its first fault, to valid JSON.

    Brackets are closed. A value that is missing or may be cut becomes null; in an array it is left out. Raw control
    characters in strings stay.

    Example:
        >>> completed('{"created": 17, "data": [{"b64_json": "[\\"", "seed": 12')
        '{"created": 17, "data": [{"b64_json": "[\\"", "seed":null}]}'
    """
    closers: list[str] = []
    state, end, at, missing = "value", 0, 0, "null"
    while (found := _TOKEN.match(text, at)) is not None:
        state = _step(state, found["mark"] or found.lastgroup or "", closers)
        if not state:
            break
        at = found.end()
        if found["mark"] != ",":
            end, missing = at, _MISSING.get(state, "")
    return text[:end] + missing + "".join(reversed(closers))


def _step(state: str, kind: str, closers: list[str]) -> str:
    """Return the state after a token of this kind, or "" if it is invalid here; update `closers`."""
    after = _AFTER.get((state, kind))
    if after is None or (not closers and state == "more") or (kind in {"]", "}"} and closers[-1] != kind):
        return ""
    if kind == ",":
        return "key" if closers[-1] == "}" else "value"
    if kind in _CLOSERS:
        closers.append(_CLOSERS[kind])
    elif kind in {"]", "}"}:
        closers.pop()
    return after


def _bytes_before(text: str, position: int) -> int:
    return len(text[:position].encode())


def _second(text: str) -> int | None:
    """Find the first key that decides about images and occurs a second time in its object."""
    closers: list[str] = []
    seen: list[set[str]] = []
    state, at = "value", 0
    while (found := _TOKEN.match(text, at)) is not None:
        if state in {"first key", "key"} and found["text"]:
            name = json.loads(found["text"], strict=False)
            if name in seen[-1]:
                return found.start("text")
            seen[-1] |= {name} & _DECIDING_KEYS
        state, at = _step(state, found["mark"] or found.lastgroup or "", closers), found.end()
        seen = [*seen, set()][: len(closers)]
    return None


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object with two equal keys that decide about images: it is unknown which one was paid for."""
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs if name in _DECIDING_KEYS]
        if len(set(names)) != len(names):
            doubled = ", ".join(sorted({repr(name) for name in names if names.count(name) > 1}))
            raise ProtocolError("duplicate-key", f"an object holds the key {doubled} twice")
    return table


# json.loads would make a decoder for each call. Strict mode would refuse raw newlines in strings, and so base64 that is
# broken into lines.
_READER = json.JSONDecoder(strict=False, object_pairs_hook=_unambiguous)
