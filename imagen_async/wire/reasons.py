"""Why the safety filter removed images, in the gateway's words, and the support codes in them.

Pure. Text of the gateway is made printable and shortened. Source: Google's "Responsible AI and usage guidelines for
Imagen", whose messages end in ``Support codes: 39322892, 29310472``.
"""

from __future__ import annotations

import re
from itertools import chain, islice
from typing import TYPE_CHECKING

from imagen_async.exceptions import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["filter_reasons", "support_codes"]

_KEYS = ("raiFilteredReason", "raiMediaFilteredReasons")
_MOST_REASONS = 16
_LONGEST_REASON = 300
_MOST_CODES = 16
_LONGEST_CODE = 20
_CODES = re.compile(r"\bsupport\s+codes?\s*+:\s*+([0-9]++(?:\s*+[,;]\s*+[0-9]++)*+)", re.IGNORECASE)


def filter_reasons(document: Mapping[str, object]) -> tuple[str, ...]:
    """Collect what a response says about filtered images: about each entry of ``data``, then about all.

    Args:
        document: The parsed response, of any shape.

    Example:
        >>> filter_reasons({"data": [{"raiFilteredReason": "violence"}, {}, {"raiFilteredReason": "violence"}]})
        ('violence',)
    """
    data = document.get("data")
    tables = chain(data if isinstance(data, list) else (), (document,))
    with_reasons = [table for table in tables if isinstance(table, dict) and not table.keys().isdisjoint(_KEYS)]
    reasons = (printable(text, _LONGEST_REASON) for table in with_reasons for text in _reasons_in(table))
    return tuple(islice(dict.fromkeys(reasons), _MOST_REASONS))


def support_codes(text: str) -> tuple[str, ...]:
    """Return the support codes in a reason or an error message.

    Example:
        >>> support_codes("Try rephrasing the prompt. Support codes: 29310472, 56562880")
        ('29310472', '56562880')
    """
    found = (code for codes in _CODES.finditer(text) for code in re.findall("[0-9]+", codes[1]))
    return tuple(islice(dict.fromkeys(code for code in found if len(code) <= _LONGEST_CODE), _MOST_CODES))


def _reasons_in(table: Mapping[str, object]) -> Iterator[str]:
    for key in _KEYS:
        value = table.get(key)
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str) and text.strip():
                yield text.strip()
