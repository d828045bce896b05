"""Converts values of a table into values with a JSON form, for the metadata of a row.

Pure. Values with one obvious text form (dates, decimals, UUIDs) become that text; others are refused.
"""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Mapping
from typing import Any

__all__ = ["NotPlainError", "plain"]

_DEEPEST = 32
"""Deeper than any metadata in use; bounds our own recursion."""


class NotPlainError(ValueError):
    """A value has no JSON form; becomes a problem of its row."""


def plain(value: Any, depth: int = 0) -> Any:
    """Return `value` as None, bool, int, float, str, list or dict, all the way down.

    Raises:
        NotPlainError: It has no JSON form that every reader understands.

    Example:
        >>> plain({"day": dt.date(2026, 6, 30), "price": decimal.Decimal("0.04")})
        {'day': '2026-06-30', 'price': '0.04'}
    """
    if depth > _DEEPEST:
        raise NotPlainError("it is nested too deeply")
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, Mapping):
        return {_key(key): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, depth + 1) for item in value]
    return _worded(value)


def _text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise NotPlainError("it holds a lone surrogate") from None
    return value


def _number(value: float) -> float:
    if not math.isfinite(value):
        raise NotPlainError(f"{value} is not a JSON number")
    return value


def _key(value: Any) -> str:
    if not isinstance(value, str):
        raise NotPlainError(f"it has a key of type {type(value).__name__}")
    return _text(value)


def _worded(value: Any) -> str:
    if isinstance(value, dt.date | dt.time):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, decimal.Decimal | dt.timedelta | uuid.UUID):
        return str(value)
    raise NotPlainError(f"a value of type {type(value).__name__} has no JSON form")
