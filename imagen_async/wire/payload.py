"""What the decoder reports about the payloads of a body: where each one starts, its spans, and where it ends."""

from __future__ import annotations

import attrs

from imagen_async.wire.escapes import ESCAPE

__all__ = ["Event", "Payload", "PayloadEnd", "PayloadStart"]


@attrs.frozen
class PayloadStart:
    """A payload begins.

    Attributes:
        hole: Number of the payload in its body, from 0.
        offset: Where its text starts in the body, in bytes.
        entry: Number of its entry among the entries of ``data`` with a payload, from 0; an entry may have two.
    """

    hole: int
    offset: int
    entry: int


@attrs.frozen
class Payload:
    """A span of a payload's text, with JSON escapes undone.

    Attributes:
        hole: Number of the payload.
        data: The characters; a view of the chunk that was fed, unless the span held escapes.
        offset: Where the span starts in the body, in bytes.
        raw: The span with its escapes, if it held any.
    """

    hole: int
    data: bytes | memoryview
    offset: int
    raw: bytes | None = None

    def at(self, index: int) -> int:
        """Return the body offset of ``data[index]``."""
        if self.raw is None:
            return self.offset + index
        shift = 0
        for found in ESCAPE.finditer(self.raw):
            if found.start() - shift >= index:
                break
            shift += found.end() - found.start() - 1
        return self.offset + index + shift

    def after(self, index: int) -> Payload:
        """Return the span from ``data[index]`` on."""
        start = self.at(index)
        raw = None if self.raw is None else self.raw[start - self.offset :]
        return Payload(self.hole, bytes(self.data[index:]), start, raw)


@attrs.frozen
class PayloadEnd:
    """A payload is complete; `offset` is that of its closing quote."""

    hole: int
    offset: int


Event = PayloadStart | Payload | PayloadEnd
