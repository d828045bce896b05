"""The streaming decoder: JSON with holes.

A response is a small JSON document around very large strings. The decoder follows only strings and keys: the value of
every ``b64_json`` key (and of every ``url`` key that holds a ``data:`` URL) is cut out while it arrives, and passed on
as `Payload` events. The rest, the skeleton, holds a short placeholder in its place. At the end the skeleton is parsed
by `json.loads`, so the document gets exactly the verdict that a normal parser gives to the whole body.

The rules: any chunking of a body gives the same images and the same verdict; a payload is never kept, joined or copied;
everything that is kept has an upper limit. The module is long because it is one state machine, with one method a state.
"""

from __future__ import annotations

import enum
import json
import re

from imagen_async.exceptions import ProtocolError, printable
from imagen_async.wire import escapes
from imagen_async.wire.payload import Event, Payload, PayloadEnd, PayloadStart
from imagen_async.wire.response import PLACEHOLDER, ResponseDocument, read_response
from imagen_async.wire.skeleton import read_begun, read_whole

__all__ = ["Decoder", "Event", "Payload", "PayloadEnd", "PayloadStart"]

_LONGEST_KEY = 6 * len("b64_json")
"""Bytes of the longest spelling of a key that matters: each character as a ``\\uXXXX`` escape."""
_KEYS = {b"b64_json": "b64_json", b"url": "url", b"data": "data"}

_IMAGE_DEPTH = 3
"""How deep ``data[i].b64_json`` is nested; a payload elsewhere is not an image of the response, but a preview."""

_BOM = b"\xef\xbb\xbf"
_DATA_URL = b"data:"
_LONGEST_PEEK = 6 * len(_DATA_URL)
_WHITE = b" \t\r\n"
_SKIPPED = re.compile(rb"(?:[ \t\r\n]++|:[^\n]*+\n)++")
"""What may precede the JSON besides a byte-order mark, in one step: many lines must not cost many steps."""
_OPENING = re.compile(
    rb"""
    \{ (?: [^"\[\]{}]*+ "(?!data"|b64_json"|url") [^"\\]*+" )*+
    [^"\[\]{}]*+ "data" [ \t\r\n]*+ : [ \t\r\n]*+ \[ [ \t\r\n]*+
    \{ (?: [^"\[\]{}]*+ "(?!data"|b64_json"|url") [^"\\]*+" )*+
    [^"\[\]{}]*+ "b64_json" [ \t\r\n]*+ : [ \t\r\n]*+ "
    """,
    re.VERBOSE,
)
"""How nearly every response begins, up to its first image: taken in one step, with the result of many."""
_LONGEST_OPENING = 2**12
_BRACKET = re.compile(rb"[\[\]{}]")


class _Mode(enum.Enum):
    PROLOGUE = enum.auto()
    COMMENT = enum.auto()
    STRUCTURE = enum.auto()
    STRING = enum.auto()
    PEEK = enum.auto()
    PAYLOAD = enum.auto()


class Decoder:
    """Decodes a body chunk by chunk into the events of its payloads, and at the end into its `ResponseDocument`.

    Args:
        max_payloads: Most payloads in one body.
        max_payload: Most characters in one payload.
        max_skeleton: Most bytes in all the rest.
        max_depth: Deepest nesting of arrays and objects.

    Attributes:
        before_fault: The events before the fault in the chunk for which `feed` raised.

    Example:
        >>> decoder = Decoder()
        >>> events = decoder.feed(b'{"created": 1, "data": [{"b64_js') + decoder.feed(b'on": "aGk="}]}')
        >>> [bytes(event.data) for event in events if isinstance(event, Payload)]
        [b'aGk=']
        >>> decoder.close().items[0].hole
        0
    """

    def __init__(
        self,
        *,
        max_payloads: int = 8,
        max_payload: int = 96 * 2**20,
        max_skeleton: int = 2**18,
        max_depth: int = 64,
    ) -> None:
        self._max_payloads = max_payloads
        self._max_payload = max_payload
        self._max_skeleton = max_skeleton
        self._max_depth = max_depth
        self.before_fault: list[Event] = []
        self._mode = _Mode.PROLOGUE
        self._base = 0
        """Body offset of the current chunk."""
        self._skeleton = bytearray()
        self._skeleton_at = 0
        """Body offset of the skeleton's first byte."""
        self._cuts: list[tuple[int, int]] = []
        """(skeleton length, body offset) after each placeholder: maps skeleton offsets to body offsets."""
        self._prologue = b""
        """The byte-order mark, as far as it has arrived."""
        self._depth = 0
        self._string = 0
        """Skeleton index where the text of the current string starts."""
        self._escaped = False
        self._key: str | None = None
        """The last string, if it may be the key of a payload."""
        self._in_data = False
        """Whether the last string of the outermost object was ``data``."""
        self._after = 0
        """Skeleton index after the last string's closing quote."""
        self._hole = -1
        self._entry = -1
        self._entered = False
        """Whether the current entry of ``data`` has a payload."""
        self._aside = False
        """Whether the current payload is not an image of the response, and is skipped."""
        self._length = 0
        """Characters of the current payload; before the document, skipped bytes."""
        self._empty: set[int] = set()
        """Payloads without a character; they count as missing."""
        self._tail = b""
        """An escape that the end of a chunk cut in two."""

    def feed(self, chunk: bytes | bytearray, size: int | None = None) -> list[Event]:
        """Decode the next bytes of the body.

        Args:
            chunk: The bytes, of which events may be views; or a bytearray that begins with them and is reused later.
            size: How many bytes of a bytearray; by default all.

        Raises:
            ProtocolError: The body breaks a rule that is already decided; see `ProtocolError.check`.
        """
        events: list[Event] = []
        try:
            if isinstance(chunk, bytearray):
                chunk = self._out_of(chunk, len(chunk) if size is None else size, events)
            position = 0
            while position < len(chunk):
                if self._mode is _Mode.PAYLOAD:
                    position = self._payload(chunk, position, events)
                elif self._mode is _Mode.STRUCTURE:
                    position = self._structure(chunk, position, events)
                elif self._mode is _Mode.STRING:
                    position = self._text(chunk, position)
                elif self._mode is _Mode.PEEK:
                    position = self._peek(chunk, position, events)
                else:
                    position = self._before(chunk, position, events)
            self._base += len(chunk)
        except ProtocolError:
            self.before_fault = events
            raise
        return events

    def _out_of(self, memory: bytearray, size: int, events: list[Event]) -> bytes:
        """Emit the current payload's part of memory that is reused later; return a copy of the rest."""
        stop = 0
        if self._mode is _Mode.PAYLOAD and not self._tail:
            quote = memory.find(b'"', 0, size)
            stop = size if quote < 0 else quote
            if memory.find(b"\\", 0, stop) >= 0:
                stop = 0
            elif stop:
                self._emit(Payload(self._hole, memoryview(memory)[:stop], self._base), events)
                self._base += stop
        return bytes(memoryview(memory)[stop:size])

    def close(self) -> ResponseDocument:
        """End the body; return the document.

        Raises:
            ProtocolError: The body is cut off, is invalid JSON, or breaks the contract of a response.
        """
        if self._mode is _Mode.PROLOGUE or self._mode is _Mode.COMMENT:
            raise ProtocolError("empty", "the body holds no JSON", offset=self._base)
        if self._mode is not _Mode.STRUCTURE:
            raise ProtocolError("truncated", "the body ends inside a string", offset=self._base)
        return read_response(read_whole(bytes(self._skeleton), self._in_body), self._empty)

    def begun(self) -> ResponseDocument:
        """Return the document of a broken body, up to its first fault; every payload that it names is complete.

        Raises:
            ProtocolError: There is no list of images yet, or a key that decides about images occurs twice.
        """
        return read_response(read_begun(bytes(self._skeleton)), self._empty)

    def _in_body(self, position: int) -> int:
        """Return the body offset of a skeleton offset."""
        for length, offset in reversed(self._cuts):
            if position >= length:
                return offset + position - length
        return self._skeleton_at + position

    # -- before the document ------------------------------------------------------------------------------------

    def _before(self, chunk: bytes, position: int, events: list[Event]) -> int:
        """Skip a byte-order mark, white space and comment lines (``: PROCESSING``) before the JSON."""
        byte, bom = b"", self._prologue in {b"", _BOM}
        if self._mode is _Mode.COMMENT:
            end = chunk.find(b"\n", position) + 1
            self._mode = _Mode.PROLOGUE if end else _Mode.COMMENT
            end = end or len(chunk)
        elif bom and (skipped := _SKIPPED.match(chunk, position)) is not None:
            end = skipped.end()
        else:
            end = position + 1
            byte = chunk[position:end]
        self._length += end - position
        if self._length > self._max_skeleton:
            raise ProtocolError("size", f"over {self._max_skeleton} bytes before the JSON", offset=self._max_skeleton)
        if not byte:
            return end
        if self._base + position < len(_BOM) and _BOM.startswith(self._prologue + byte):
            self._prologue += byte
        elif not bom:
            self._not_json(self._prologue + byte, 0)
        elif byte == b":":
            self._mode = _Mode.COMMENT
        elif byte == b"{":
            self._skeleton_at = self._base + position
            self._mode = _Mode.STRUCTURE
            return self._open_first(chunk, position, events)
        else:
            self._not_json(chunk[position : position + 40], self._base + position)
        return end

    def _not_json(self, begin: bytes, offset: int) -> None:
        shown = printable(begin.decode("utf-8", "backslashreplace"), 40)
        kind = "HTML" if begin.lstrip().startswith(b"<") else "not a JSON object"
        raise ProtocolError("json", f"the body is {kind}: it begins with {shown!r}", offset=offset)

    def _open_first(self, chunk: bytes, position: int, events: list[Event]) -> int:
        """Go straight to the first image, if the document begins as usual."""
        limit = min(_LONGEST_OPENING, self._max_skeleton)
        opening = _OPENING.match(chunk, position, position + limit)
        if opening is None or self._max_depth < _IMAGE_DEPTH:
            return position
        self._skeleton += opening[0]
        self._depth, self._in_data, self._string = _IMAGE_DEPTH, True, len(self._skeleton)
        self._open(opening.end(), events)
        return opening.end()

    # -- the skeleton -------------------------------------------------------------------------------------------

    def _structure(self, chunk: bytes, position: int, events: list[Event]) -> int:
        quote = chunk.find(b'"', position)
        end = len(chunk) if quote < 0 else quote + 1
        self._nest(chunk, position, end)
        self._keep(chunk[position:end], position)
        if quote < 0:
            return end
        key = self._key if self._skeleton[self._after : -1].strip(_WHITE) == b":" else None
        self._key = None
        self._string = len(self._skeleton)
        if key == "b64_json":
            self._open(quote + 1, events)
        else:
            self._mode = _Mode.PEEK if key == "url" else _Mode.STRING
        return quote + 1

    def _text(self, chunk: bytes, position: int) -> int:
        """Copy an ordinary string into the skeleton, with its closing quote."""
        start = position + self._escaped
        quote = escapes.find_quote(chunk, start)
        end = len(chunk) if quote < 0 else quote + 1
        self._keep(chunk[position:end], position)
        self._escaped = quote < 0 and escapes.ends_in_backslash(chunk[start:])
        if quote >= 0:
            self._after = len(self._skeleton)
            self._key = _key(bytes(self._skeleton[self._string : self._after - 1]))
            if self._depth == 1:
                self._in_data = self._key == "data"
            self._mode = _Mode.STRUCTURE
        return end

    def _keep(self, data: bytes, position: int) -> None:
        self._skeleton += data
        if len(self._skeleton) > self._max_skeleton:
            raise ProtocolError(
                "size",
                f"over {self._max_skeleton} bytes besides the images",
                offset=self._base + position + len(data) - (len(self._skeleton) - self._max_skeleton),
            )

    def _nest(self, chunk: bytes, start: int, end: int) -> None:
        if not chunk.count(b"{", start, end) and not chunk.count(b"[", start, end):
            self._depth -= chunk.count(b"}", start, end) + chunk.count(b"]", start, end)
            self._entered = self._entered and self._depth >= _IMAGE_DEPTH
            return
        for found in _BRACKET.finditer(chunk, start, end):
            self._depth += 1 if found[0] in b"[{" else -1
            if self._depth > self._max_depth:
                raise ProtocolError("depth", f"nested deeper than {self._max_depth}", offset=self._base + found.start())
            if self._depth < _IMAGE_DEPTH:
                self._entered = False

    # -- payloads -----------------------------------------------------------------------------------------------

    def _peek(self, chunk: bytes, position: int, events: list[Event]) -> int:
        """Decide whether the string at a ``url`` key is a ``data:`` URL, as soon as its first characters are known."""
        before = bytes(self._skeleton[self._string :])
        more = chunk[position : position + _LONGEST_PEEK - len(before)]
        quote = escapes.find_quote(more, int(escapes.ends_in_backslash(before)))
        end = position + (len(more) if quote < 0 else quote)
        self._keep(chunk[position:end], position)
        raw = before + chunk[position:end]
        if quote < 0 and len(raw) < _LONGEST_PEEK and _may_be_data_url(raw):
            return end
        if escapes.unescaped(raw)[: len(_DATA_URL)].lower() != _DATA_URL:
            self._escaped = escapes.ends_in_backslash(raw)
            self._mode = _Mode.STRING
            return end
        del self._skeleton[self._string :]
        start = self._base + end - len(raw)
        self._open(start - self._base, events)
        self._span(raw, start, events)
        return end

    def _open(self, position: int, events: list[Event]) -> None:
        self._length = 0
        self._mode = _Mode.PAYLOAD
        self._aside = self._depth != _IMAGE_DEPTH or not self._in_data
        if self._aside:
            self._skeleton += _DATA_URL
            return
        self._hole += 1
        self._entry += not self._entered
        self._entered = True
        offset = self._base + position
        if self._hole >= self._max_payloads:
            raise ProtocolError("images", f"more than {self._max_payloads} images in one response", offset=offset)
        self._skeleton += f"{PLACEHOLDER}{self._hole}".encode()
        events.append(PayloadStart(self._hole, offset, self._entry))

    def _payload(self, chunk: bytes, position: int, events: list[Event]) -> int:
        if self._tail:
            return self._finish_escape(chunk, position, events)
        quote = chunk.find(b'"', position)
        slash = chunk.find(b"\\", position, len(chunk) if quote < 0 else quote)
        if slash >= 0:
            # An escaped quote does not end the string; that it is not base64 is for `base64` to decide.
            quote = escapes.find_quote(chunk, slash)
        end = len(chunk) if quote < 0 else quote
        if slash >= 0:
            self._span(chunk[position:end], self._base + position, events)
        elif end > position:
            self._emit(Payload(self._hole, memoryview(chunk)[position:end], self._base + position), events)
        if quote < 0:
            return end
        if self._tail:
            raise self._bad_escape(self._base + quote - len(self._tail))
        if not self._aside:
            events.append(PayloadEnd(self._hole, self._base + quote))
            if self._length == 0:
                self._empty.add(self._hole)
        self._skeleton += b'"'
        self._after = len(self._skeleton)
        self._cuts.append((self._after, self._base + quote + 1))
        self._mode = _Mode.STRUCTURE
        return quote + 1

    def _span(self, raw: bytes, offset: int, events: list[Event]) -> None:
        """Emit a span that may hold escapes; an escape that its end cuts in two waits for the next chunk."""
        cut = escapes.unfinished(raw)
        whole, self._tail = raw[:cut], raw[cut:]
        data, end = escapes.undo(whole)
        if end:
            self._emit(Payload(self._hole, data, offset, whole[:end] if b"\\" in whole[:end] else None), events)
        if end < len(whole):
            raise self._bad_escape(offset + end)

    def _finish_escape(self, chunk: bytes, position: int, events: list[Event]) -> int:
        """Complete an escape that began in an earlier chunk."""
        tail, offset = self._tail, self._base + position - len(self._tail)
        raw = tail + chunk[position : position + len(rb"\u0000") - len(tail)]
        if (found := escapes.ESCAPE.match(raw)) is not None:
            self._tail = b""
            self._emit(Payload(self._hole, escapes.character(found), offset, found[0]), events)
            return position + found.end() - len(tail)
        if not escapes.UNFINISHED.fullmatch(raw):
            raise self._bad_escape(offset)
        self._tail = raw
        return len(chunk)

    def _bad_escape(self, offset: int) -> ProtocolError:
        return ProtocolError("json", "a string holds an escape that JSON does not have", offset=offset)

    def _emit(self, span: Payload, events: list[Event]) -> None:
        self._length += len(span.data)
        if self._length > self._max_payload:
            over = len(span.data) - (self._length - self._max_payload)
            raise ProtocolError(
                "size", f"an image of over {self._max_payload} characters", offset=span.at(over), item=self._hole
            )
        if not self._aside:
            events.append(span)


def _key(raw: bytes) -> str | None:
    """Return the key if it is ``data`` or may be the key of a payload."""
    if len(raw) > _LONGEST_KEY or b"\\" not in raw:
        return _KEYS.get(raw)
    try:
        key = json.loads(b'"' + raw + b'"', strict=False)
    except ValueError:  # the skeleton's verdict will report it
        return None
    return key if key in _KEYS.values() else None


def _may_be_data_url(raw: bytes) -> bool:
    """Return whether the beginning of a string is too short to know whether it is a ``data:`` URL."""
    known = escapes.unescaped(raw[: escapes.unfinished(raw)]).lower()
    return len(known) < len(_DATA_URL) and _DATA_URL.startswith(known)
