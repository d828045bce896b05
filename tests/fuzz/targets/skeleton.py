"""The completion of a truncated document: always JSON, never with added content, complete if the input is."""

from __future__ import annotations

import json
import re
from typing import Any

from imagen_async.exceptions import ProtocolError
from imagen_async.wire.skeleton import completed, read_begun, read_whole
from tests.fuzz.cutting import chance_of
from tests.wire.oracles import begins

__all__ = ["LONGEST", "WORDS", "check"]

LONGEST = 2048
WORDS = (
    b'"data"', b'"data":[', b'"b64_json":', b'"url":', b'"error":', b'{"data":[{"b64_json":"data:hole-0"}]}', b"data:",
    b"true", b"false", b"null", b"NaN", b"-Infinity", b"1e5", b"-0.5", b'\\"', b"\\u00e9", b"\\ud800", b"\xff", b"}]}",
)  # fmt: skip

_TOO_DEEP = 300
_TOO_LONG = re.compile(r"[0-9]{600}")


def check(data: bytes) -> None:
    """Complete `data` as text, and read it both ways."""
    text = data.decode("utf-8", "replace")
    if text.count("[") + text.count("{") < _TOO_DEEP and not _TOO_LONG.search(text):
        _complete(text)
    _read(data)


def _complete(text: str) -> None:
    made = completed(text)
    assert len(made) <= 2 * len(text) + len("null") + 1
    document, doubled = _loaded(made)
    try:
        whole, _ = _loaded(text)
    except ValueError:
        pass
    else:
        assert document == whole or not isinstance(whole, dict | list)  # a truncated number may be a number
    part, _ = _loaded(completed(text[: chance_of(text.encode("utf-8", "replace")).randrange(len(text) + 1)]))
    assert doubled or begins(part, document)


def _loaded(text: str) -> tuple[Any, bool]:
    """Parse JSON, and return whether a key occurs twice."""
    doubled = []

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        made = dict(pairs)
        doubled.extend([True] * (len(made) < len(pairs)))
        return made

    return json.loads(text, strict=False, object_pairs_hook=table, parse_constant=str), bool(doubled)


def _read(data: bytes) -> None:
    begun = _begun(data)
    try:
        whole = read_whole(data, int)
    except ProtocolError as error:
        assert error.offset is None or 0 <= error.offset <= len(data)
        assert str(error).isprintable()
    else:
        assert repr(begun) == repr(whole)


def _begun(data: bytes) -> dict[str, Any] | None:
    try:
        return read_begun(data)
    except ProtocolError as error:
        assert str(error).isprintable()
        return None
