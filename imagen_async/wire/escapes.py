r"""Escapes in JSON strings, in text that may be cut anywhere: where a string ends, and which characters it stands for.

An escape of a character outside ASCII becomes one byte that base64 refuses. Pure.
"""

from __future__ import annotations

import re

__all__ = ["ESCAPE", "UNFINISHED", "character", "ends_in_backslash", "find_quote", "undo", "unescaped", "unfinished"]

ESCAPE = re.compile(rb'\\(?:(["\\/bfnrt])|u([0-9A-Fa-f]{4}))')
UNFINISHED = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
"""An escape that the end of the text cuts in two."""
_SPECIAL = re.compile(rb'["\\]')
_PLAIN = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


def find_quote(text: bytes, start: int = 0) -> int:
    """Return where the quote that ends a string is, from `start` on; -1 if it is not in this text."""
    quote = text.find(b'"', start)
    position = text.find(b"\\", start, len(text) if quote < 0 else quote)
    if position < 0:
        return quote
    while (found := _SPECIAL.search(text, position)) is not None:
        if found[0] == b'"':
            return found.start()
        position = found.end() + 1
    return -1


def ends_in_backslash(raw: bytes | bytearray) -> bool:
    """Return whether the next character is escaped."""
    return (len(raw) - len(raw.rstrip(b"\\"))) % 2 == 1


def unfinished(raw: bytes) -> int:
    """Return where an escape begins that the end of `raw` cuts in two, or its length."""
    found = UNFINISHED.search(raw, max(0, len(raw) - 5))
    if found is None:
        return len(raw)
    return found.start() if ends_in_backslash(raw[: found.start() + 1]) else len(raw)


def undo(raw: bytes) -> tuple[bytes, int]:
    """Undo the escapes up to the first invalid one; return the characters, and where the invalid escape is."""
    data = raw.replace(b"\\/", b"/") if b"\\\\" not in raw else raw
    if b"\\" not in data:
        return data, len(raw)
    parts: list[bytes] = []
    position = 0
    while (slash := raw.find(b"\\", position)) >= 0:
        found = ESCAPE.match(raw, slash)
        parts.append(raw[position:slash])
        if found is None:
            return b"".join(parts), slash
        parts.append(character(found))
        position = found.end()
    return b"".join((*parts, raw[position:])), len(raw)


def unescaped(raw: bytes) -> bytes:
    """Undo all valid escapes."""
    return ESCAPE.sub(character, raw)


def character(found: re.Match[bytes]) -> bytes:
    """Return the character of one escape."""
    if found[1] is not None:
        return _PLAIN[found[1]]
    return bytes((min(int(found[2], 16), 0x80),))
