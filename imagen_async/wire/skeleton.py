"""The small document that is left of a body when its images are cut out: read whole, or as far as it came.

A whole skeleton gets exactly the verdict of `json.loads`. One that broke off is completed first: what stands up to the
first fault is kept, what is open is closed, and a value that may be cut is none. Pure; it knows no image.
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
            # More digits than these are a fault to Python, whatever its limit is set to.
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
"""What may come next, by what may come now and the token that came; after a comma it depends on the bracket."""
_MISSING = {"value": "null", "colon": ":null"}


def read_whole(skeleton: bytes, in_body: Callable[[int], int]) -> dict[str, Any]:
    """Read a skeleton whose body has ended.

    Args:
        skeleton: All of it.
        in_body: Gives the offset in the body for one in the skeleton.

    Raises:
        ProtocolError: It is no JSON object, or a key that decides about images stands twice in one object.
    """
    try:
        text = skeleton.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ProtocolError("utf-8", error.reason, offset=in_body(error.start)) from None
    try:
        return _object(text, in_body(0))
    except json.JSONDecodeError as error:
        check = "truncated" if error.pos >= len(text.rstrip()) else "json"
        raise ProtocolError(check, error.msg, offset=in_body(_bytes_before(text, error.pos))) from None
    except ProtocolError as error:
        if error.check == "duplicate-key" and (place := _second(text)) is not None:
            error.offset = in_body(_bytes_before(text, place))
        raise
    except (RecursionError, ValueError) as error:  # a number of thousands of digits is a ValueError
        raise ProtocolError("json", printable(str(error)), offset=in_body(0)) from None


def read_begun(skeleton: bytes) -> dict[str, Any]:
    """Read a skeleton that broke off, or that has a fault, as far as it goes.

    Raises:
        ProtocolError: It does not begin an object, or a key that decides about images has come twice in one object.
    """
    try:
        text = skeleton.decode("utf-8")
    except UnicodeDecodeError as error:
        text = skeleton[: error.start].decode("utf-8")
    return _object(completed(text), 0)


def completed(text: str) -> str:
    r"""Make valid JSON of the beginning of a document, up to its end or its first fault.

    Brackets are closed; a value that is missing or may be cut is null, and in an array left out. Raw control
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
    """Return what may come after a token of this kind, or nothing if none may stand here; keep `closers` up to date."""
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
    """Find the first key that decides about images and has stood in its object before."""
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


def _object(text: str, begin: int) -> dict[str, Any]:
    document = _READER.decode(text)
    if not isinstance(document, dict):
        raise ProtocolError("json", "the body is not a JSON object", offset=begin)
    return document


def _unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that gives a key that decides about images twice: which one was paid for cannot be known."""
    table = dict(pairs)
    if len(table) != len(pairs):
        names = [name for name, _ in pairs if name in _DECIDING_KEYS]
        if len(set(names)) != len(names):
            doubled = ", ".join(sorted({repr(name) for name in names if names.count(name) > 1}))
            raise ProtocolError("duplicate-key", f"an object may hold the key {doubled} once, and holds it again")
    return table


# json.loads would make a decoder a call. Strict mode would refuse raw newlines in strings, and with them base64 that is
# broken into lines.
_READER = json.JSONDecoder(strict=False, object_pairs_hook=_unambiguous)
