"""Decodes the text of a payload to the bytes of an image, span by span.

Standard base64 goes straight through pybase64. White space, the URL-safe alphabet, a ``data:`` prefix and missing
padding take a slower path for their span. At most three characters are carried from one span to the next. Only
canonical text is valid: the bytes, encoded again, give the same text, so leftover bits, characters after the padding
and incomplete padding are refused. Pure.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pybase64

from imagen_async.exceptions import ProtocolError
from imagen_async.wire.payload import Payload

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Base64Decoder"]

_WHITE = b" \t\r\n"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_INK = re.compile(rb"[^ \t\r\n]")
_TEXT = re.compile(rb"[A-Za-z0-9+/\-_ \t\r\n]*+")
_PADDING = [re.compile(rb"(?:[ \t\r\n]*+=){0,%d}+[ \t\r\n]*+" % room) for room in (2, 1, 0)]
"""What may follow the text, by the amount of padding so far."""
_VALUES = {
    char: value for value, char in enumerate(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_PREFIX = re.compile(rb"data:[ -+\--~]{0,255};base64,", re.IGNORECASE)
_LONGEST_PREFIX = 5 + 255 + 8
_PLAIN = re.compile(rb"[A-Za-z0-9+/]*")
_QUANTUM = 4
_PAD = ord("=")
_NO_PREFIX = frozenset(b"ABCEFGHIJKLMNOPQRSTUVWXYZabcefghijklmnopqrstuvwxyz0123456789+/-_")
"""Characters with which neither white space nor a ``data:`` prefix begins."""


class Base64Decoder:
    """Decodes the spans of one payload, in order.

    Args:
        item: The image's number in the response, for error messages.

    Example:
        >>> decoder = Base64Decoder(0)
        >>> parts = [*decoder.decode(Payload(0, b"aGVsbG", 0)), *decoder.decode(Payload(0, b"8=", 6)), *decoder.flush()]
        >>> b"".join(parts)
        b'hello'
    """

    def __init__(self, item: int) -> None:
        self._item = item
        self._carry = b""
        """The text of the last quantum, unless it is complete and has no padding."""
        self._given = False
        """Whether its bytes were returned already, so that only white space can follow."""
        self._padding = 0
        self._begin: bytes | None = b""
        """The first characters, while they may still be a ``data:`` prefix; then None."""
        self._begin_at = 0
        """Their body offset."""
        self._end = 0
        """Body offset after the last character seen."""

    def decode(self, span: Payload) -> Iterable[bytes]:
        """Decode one span.

        Returns:
            Decoded bytes, in order; where they are divided has no meaning. Iterate them before the next span.

        Raises:
            ProtocolError: When iterated; ``check`` is ``"base64"``, the offset is that of the invalid character.
        """
        data = span.data
        self._end = span.offset + len(data) if span.raw is None else span.at(len(data))
        if self._begin is not None:
            if self._begin or not data or data[0] not in _NO_PREFIX:
                return self._decode_begin(span, self._begin)
            self._begin = None
        if self._padding or span.raw is not None:
            return self._slow(span)
        parts = self._standard(memoryview(data))
        return self._slow(span) if parts is None else parts

    def flush(self) -> Iterator[bytes]:
        """End the payload; return its last bytes.

        Raises:
            ProtocolError: The text ends inside a byte, its padding is wrong, or bits are left over.
        """
        if self._begin:
            begin, self._begin = self._begin, None
            yield from self._slow(Payload(0, begin, self._begin_at))
        left = len(self._carry)
        if left == 1 or (self._padding and self._padding != -left % _QUANTUM) or (self._padding and not left):
            raise self._refusal("the text ends inside a byte" if left == 1 else "the padding is wrong", self._end)
        if left:
            spare = {2: 0b1111, 3: 0b11}[left]
            if _VALUES[self._carry[-1]] & spare:
                raise self._refusal("bits are left over after the last byte", self._end - self._padding - 1)
            if not self._given:
                yield pybase64.b64decode(self._carry + b"=" * (-left % _QUANTUM), validate=True)

    def _decode_begin(self, span: Payload, begin: bytes) -> Iterator[bytes]:
        """Strip white space and a ``data:`` prefix off the beginning, which may be spread over several spans."""
        data = begin + bytes(span.data) if begin else span.data
        first = _INK.search(data)
        if first is None:
            return
        self._begin_at = self._begin_at if begin else span.at(first.start())
        text = bytes(data[first.start() : first.start() + _LONGEST_PREFIX])
        if text[:5].lower() != b"data:"[: len(text)]:
            self._begin = None
            if begin:
                yield from self._slow(Payload(0, begin, self._begin_at))
            yield from self.decode(span)
            return
        found = _PREFIX.match(text)
        if found is None:
            if b"," in text or len(text) == _LONGEST_PREFIX:
                raise self._refusal("the data: URL is not base64", self._begin_at)
            self._begin = text
            return
        self._begin = None
        skipped = first.start() + found.end() - len(begin)
        yield from self._slow(span.after(skipped))

    def _standard(self, view: memoryview) -> tuple[bytes, ...] | None:
        """Decode standard text, with the padding that ends most payloads; return None, unchanged, for other text."""
        carry = self._carry
        start = -len(carry) % _QUANTUM
        stop = len(view) - (len(view) - start) % _QUANTUM
        if stop <= start:
            return None
        head, tail, padding = carry + bytes(view[:start]), bytes(view[stop:]), 0
        if tail and not _PLAIN.fullmatch(tail):
            return None
        if view[stop - 1] == _PAD:
            padding = 2 if view[stop - 2] == _PAD else 1
            if tail:
                return None
            tail = bytes(view[stop - _QUANTUM : stop - padding])
        try:
            body = pybase64.b64decode(view[start:stop], validate=True)
            begin = pybase64.b64decode(head, validate=True) if head else b""
        except ValueError:
            return None
        if len(begin) * _QUANTUM != len(head) * 3:  # padding in the first quantum
            return None
        self._carry, self._padding, self._given = tail, padding, padding > 0
        return (begin, body) if begin else (body,)

    def _slow(self, span: Payload) -> Iterator[bytes]:
        raw = bytes(span.data)
        ends = 0 if self._padding else _past(_TEXT, raw, 0)
        stop = _past(_PADDING[self._padding], raw, ends)
        if stop < len(raw):
            raise self._refusal(_misplaced(raw[stop : stop + 1]), span.at(stop))
        self._padding += raw.count(b"=", ends)
        text = self._carry + raw[:ends].translate(_TO_STANDARD, _WHITE)
        whole = len(text) - len(text) % _QUANTUM
        self._carry = text[whole:]
        if whole:
            yield pybase64.b64decode(text[:whole], validate=True)

    def _refusal(self, reason: str, offset: int) -> ProtocolError:
        return ProtocolError("base64", reason, offset=offset, item=self._item)


def _past(pattern: re.Pattern[bytes], raw: bytes, begin: int) -> int:
    found = pattern.match(raw, begin)
    return found.end() if found else begin


def _misplaced(character: bytes) -> str:
    if character == b"=":
        return "more padding than base64 has"
    return "text after the padding" if _TEXT.fullmatch(character) else f"the character {character!r} is not base64"
