"""From the text of a payload to the bytes of an image: base64, incrementally, in whatever dress it comes.

Standard text in spans whose length is a multiple of four goes straight through pybase64; white space, the URL-safe
alphabet, a ``data:`` prefix and missing padding take a slower path for that span only. At most three characters are
carried from one span to the next. The verdict is the canonical one: the bytes, encoded again, give the same text, so
leftover bits, characters after the padding and half a padding are refused. Pure; runs in writer threads.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pybase64

from imagen_async.exceptions import ProtocolError
from imagen_async.wire.decoder import Payload

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PayloadDecoder"]

_WHITE = b" \t\r\n"
_TO_STANDARD = bytes.maketrans(b"-_", b"+/")
_FOREIGN = re.compile(rb"[^A-Za-z0-9+/=\-_ \t\r\n]")
_VALUES = {
    char: value for value, char in enumerate(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
}
_PREFIX = re.compile(rb"data:[ -+\--~]{0,255};base64,", re.IGNORECASE)
_LONGEST_PREFIX = 5 + 255 + 8
_PLAIN = re.compile(rb"[A-Za-z0-9+/]*")
_QUANTUM = 4
_PAD = ord("=")
_LAST = 8
"""Characters at the end of a padded span that are decoded apart: more than any padding has."""


class PayloadDecoder:
    """Decodes the spans of one payload, in order.

    Args:
        item: Which image of the answer, for error messages.

    Example:
        >>> decoder = PayloadDecoder(0)
        >>> parts = [*decoder.decode(Payload(0, b"aGVsbG", 0)), *decoder.decode(Payload(0, b"8=", 6)), *decoder.flush()]
        >>> b"".join(parts)
        b'hello'
    """

    def __init__(self, item: int) -> None:
        self._item = item
        self._carry = b""
        self._padding = 0
        self._begin: bytes | None = b""
        """The first characters, while they may still be a ``data:`` prefix; then None."""
        self._end = 0
        """Body offset after the last character seen."""

    def decode(self, span: Payload) -> Iterator[bytes]:
        """Decode one span.

        Yields:
            Decoded bytes, in order; their joins have no meaning.

        Raises:
            ProtocolError: ``check`` is ``"base64"``; the offset is that of the character to blame.
        """
        if self._begin is not None:
            yield from self._decode_begin(span, self._begin)
        else:
            yield from self._decode(span)
        self._end = span.at(len(span.data))

    def flush(self) -> Iterator[bytes]:
        """End the payload.

        Raises:
            ProtocolError: The text stops in mid-byte, its padding is wrong, or bits are left over.
        """
        if self._begin:
            begin, self._begin = self._begin, None
            yield from self._slow(Payload(0, begin, self._end - len(begin)))
        left = len(self._carry)
        if left == 1 or (self._padding and self._padding != -left % _QUANTUM) or (self._padding and not left):
            raise self._refusal("the text stops in mid-byte" if left == 1 else "the padding is wrong", self._end)
        if left:
            spare = {2: 0b1111, 3: 0b11}[left]
            if _VALUES[self._carry[-1]] & spare:
                raise self._refusal("bits are left over after the last byte", self._end - self._padding - 1)
            yield pybase64.b64decode(self._carry + b"=" * (-left % _QUANTUM), validate=True)

    def _decode_begin(self, span: Payload, begin: bytes) -> Iterator[bytes]:
        """Strip white space and a ``data:`` prefix off the beginning, which may be spread over several spans."""
        data = begin + bytes(span.data) if begin else span.data
        stripped = bytes(data[:_LONGEST_PREFIX]).lstrip(_WHITE)
        if stripped[:5].lower() != b"data:"[: len(stripped)]:
            self._begin = None
            at = span.at(0) - len(begin)
            if begin:
                yield from self._slow(Payload(0, begin, at))
            yield from self._decode(span)
            return
        text = bytes(data).lstrip(_WHITE)
        found = _PREFIX.match(text)
        if found is None:
            if b"," in text or len(text) > _LONGEST_PREFIX:
                raise self._refusal("the data: URL is not base64", span.at(0))
            self._begin = text
            return
        self._begin = None
        skipped = len(span.data) - (len(text) - found.end())
        rest = span.data[skipped:]
        yield from self._slow(Payload(0, bytes(rest), span.at(skipped)))

    def _decode(self, span: Payload) -> Iterator[bytes]:
        """Decode a span of plain text in three steps, and any other in the slow way."""
        view = memoryview(span.data)
        # Padding ends most payloads, and only the few characters around it need care.
        most = len(view) - _LAST if len(view) > _LAST and view[-1] == _PAD else len(view)
        parts = None if self._padding or span.raw is not None else self._plain(view[:most])
        if parts is None:
            yield from self._slow(span)
            return
        yield from parts
        if most < len(view):
            yield from self._slow(Payload(span.hole, view[most:], span.at(most)))

    def _plain(self, view: memoryview) -> tuple[bytes, ...] | None:
        """Decode standard text without padding; None, with nothing changed, if it is anything else."""
        carry = self._carry
        start = -len(carry) % _QUANTUM
        stop = len(view) - (len(view) - start) % _QUANTUM
        head, tail = carry + bytes(view[:start]), bytes(view[stop:])
        if stop <= start or not _PLAIN.fullmatch(tail) or view[stop - 1] == _PAD:
            return None
        try:
            body = pybase64.b64decode(view[start:stop], validate=True)
            begin = pybase64.b64decode(head, validate=True) if head else b""
        except ValueError:
            return None
        if len(begin) * _QUANTUM != len(head) * 3:  # padding in the first quantum
            return None
        self._carry = tail
        return (begin, body) if begin else (body,)

    def _slow(self, span: Payload) -> Iterator[bytes]:
        raw = bytes(span.data)
        if not raw:
            return
        if (foreign := _FOREIGN.search(raw)) is not None:
            raise self._refusal(f"the character {foreign[0]!r} is not base64", span.at(foreign.start()))
        text = raw.translate(_TO_STANDARD, _WHITE)
        text, padding, rest = _split_padding(text)
        if rest or (self._padding and text):
            raise self._refusal("text after the padding", span.at(_after_padding(raw, started=self._padding > 0)))
        self._padding += padding
        if self._padding > 2:  # noqa: PLR2004 - base64 pads with at most two
            raise self._refusal("more padding than base64 has", span.at(raw.rindex(b"=")))
        text = self._carry + text
        whole = len(text) - len(text) % _QUANTUM
        self._carry = text[whole:]
        if whole:
            yield pybase64.b64decode(text[:whole], validate=True)

    def _refusal(self, reason: str, offset: int) -> ProtocolError:
        return ProtocolError("base64", reason, offset=offset, item=self._item)


def _split_padding(text: bytes) -> tuple[bytes, int, bytes]:
    data, _, rest = text.partition(b"=")
    after = rest.lstrip(b"=")
    return data, len(text) - len(data) - len(after), after


def _after_padding(raw: bytes, *, started: bool) -> int:
    begin = 0 if started else raw.index(b"=")
    found = re.compile(rb"[^= \t\r\n]").search(raw, begin)
    return found.start() if found else begin
