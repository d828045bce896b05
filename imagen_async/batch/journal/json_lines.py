"""A record as one line of JSON, without characters that a terminal or a line splitter would interpret.

Any value from a row of input or a gateway becomes one valid line: a NaN in an unrelated column must not lose a paid
image.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from imagen_async.exceptions import JournalError

__all__ = ["json_line", "storable"]

# DEL and C1, the separators that some readers split lines at, and the overrides that reorder a terminal's text.
_ACTIVE = re.compile("[\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def json_line(record: Mapping[str, Any]) -> str:
    r"""Encode `record` as one line of JSON, without the newline; keys keep their order.

    Control characters, separators and bidirectional overrides become ``\u`` escapes, lone surrogates, which UTF-8
    cannot encode, U+FFFD. NaN and infinities become null, values of other types their ``str``.

    Raises:
        JournalError: The record refers to itself or has a key that is not text.

    Example:
        >>> print(json_line({"prompt": "a\nfox\u2028", "score": float("nan")}))
        {"prompt": "a\nfox\u2028", "score": null}
    """
    try:
        try:
            text = _ENCODER.encode(record)
        except ValueError:
            text = _ENCODER.encode(_finite(record))
    except (TypeError, ValueError, RecursionError) as error:
        raise JournalError(f"a record cannot be written as JSON: {error}") from None
    if text.isascii() and "\x7f" not in text:
        return text
    return storable(_ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text))


def storable(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot encode, by U+FFFD."""
    return text if text.isascii() else _SURROGATE.sub("\ufffd", text)


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, Mapping) else str(value)


_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, default=_plain)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
