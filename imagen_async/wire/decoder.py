"""The streaming decoder: JSON with holes.

An answer is a small JSON document around very large strings. The decoder follows strings and keys only: the value
of every ``b64_json`` key (and of every ``url`` key that holds a ``data:`` URL) is cut out while it arrives and handed
on as `Payload` events; what is left, the skeleton, has a short placeholder in its place. At the end the skeleton goes
through `json.loads`, so that the document gets exactly the verdict that a normal parser gives the whole body.

The rules: any chunking of a body gives the same images and the same verdict; a payload is never held, joined or
copied; everything that is held is capped. It decides nothing about base64 (see `payload`) and knows no file and no
socket.
"""

from __future__ import annotations

import enum
import json
import re

import attrs

from imagen_async.exceptions import ProtocolError, printable
from imagen_async.wire.response import PLACEHOLDER, ResponseDocument, read_answer
from imagen_async.wire.skeleton import read_begun, read_whole

__all__ = ["Decoder", "Event", "Payload", "PayloadEnd", "PayloadStart"]

_LONGEST_KEY = 6 * len("b64_json")
"""Bytes of the longest spelling of a key that matters: each character as a ``\\uXXXX`` escape."""

_IMAGE_DEPTH = 3
"""How deep ``data[i].b64_json`` stands; what stands elsewhere is no image of the answer, a preview for instance."""

_DATA_URL = b"data:"
_LONGEST_PEEK = 6 * len(_DATA_URL)
_WHITE = b" \t\r\n"
_SKIPPED = re.compile(rb"(?:[ \t\r\n]++|:[^\n]*+\n)++")
"""What may stand before the JSON besides its byte-order mark, at once: many lines must not cost many steps."""
_OPENING = re.compile(
    rb"""
    \{ (?: [^"\[\]{}]*+ "(?!data"|b64_json"|url") [^"\\]*+" )*+
    [^"\[\]{}]*+ "data" [ \t\r\n]*+ : [ \t\r\n]*+ \[ [ \t\r\n]*+
    \{ (?: [^"\[\]{}]*+ "(?!data"|b64_json"|url") [^"\\]*+" )*+
    [^"\[\]{}]*+ "b64_json" [ \t\r\n]*+ : [ \t\r\n]*+ "
    """,
    re.VERBOSE,
)
"""How nearly every answer begins, up to its first image: taken at once, to the same effect as string by string."""
_LONGEST_OPENING = 2**12
_SPECIAL = re.compile(rb'["\\]')
_BRACKET = re.compile(rb"[\[\]{}]")
_ESCAPE = re.compile(rb'\\(?:(["\\/bfnrt])|u([0-9A-Fa-f]{4}))')
_UNFINISHED_ESCAPE = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?\Z")
_PLAIN = {b'"': b'"', b"\\": b"\\", b"/": b"/", b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@attrs.frozen
class PayloadStart:
    """A payload begins.

    Attributes:
        hole: Counts the payloads of a body from 0.
        offset: Where its text stands in the body, in bytes.
        entry: Counts the entries of ``data`` that have a payload, from 0; one may have two, at both keys.
    """

    hole: int
    offset: int
    entry: int


@attrs.frozen
class Payload:
    """A span of a payload's text, JSON escapes already undone.

    Attributes:
        hole: Which payload.
        data: The characters; a view of the chunk that was fed, unless it held escapes.
        offset: Where the span stands in the body, in bytes.
        raw: The span as it was spelled, if it held escapes.
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
        for found in _ESCAPE.finditer(self.raw):
            if found.start() - shift >= index:
                break
            shift += found.end() - found.start() - 1
        return self.offset + index + shift

    def after(self, index: int) -> Payload:
        """Return the span from ``data[index]`` on."""
        begin = self.at(index)
        raw = None if self.raw is None else self.raw[begin - self.offset :]
        return Payload(self.hole, bytes(self.data[index:]), begin, raw)


@attrs.frozen
class PayloadEnd:
    """A payload is complete; `offset` is that of its closing quote."""

    hole: int
    offset: int


Event = PayloadStart | Payload | PayloadEnd


class _Mode(enum.Enum):
    PROLOGUE = enum.auto()
    COMMENT = enum.auto()
    STRUCTURE = enum.auto()
    STRING = enum.auto()
    PEEK = enum.auto()
    PAYLOAD = enum.auto()


class Decoder:
    """Takes a body in chunks and gives its payloads as they come, and at the end its `ResponseDocument`.

    Args:
        max_payloads: Most payloads in one body.
        max_payload: Most characters in one payload.
        max_skeleton: Most bytes in all the rest.
        max_depth: Deepest nesting of arrays and objects.

    Attributes:
        before_fault: What came before the fault in the chunk that `feed` raised for.

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
        """(skeleton length, body offset) after each placeholder: maps skeleton offsets back to the body's."""
        self._prologue = b""
        self._depth = 0
        self._string = 0
        """Skeleton index where the current string's text began."""
        self._escaped = False
        self._key: str | None = None
        """The last string, if it may be a payload's key."""
        self._in_data = False
        """Whether the last string of the outermost object was ``data``."""
        self._after = 0
        """Skeleton index after the last string's closing quote."""
        self._hole = -1
        self._entry = -1
        self._entered = False
        """Whether the current entry of ``data`` has a payload."""
        self._aside = False
        """Whether the current payload is no image of the answer, and is passed over."""
        self._length = 0
        """Characters of the current payload; before the document, bytes that were skipped."""
        self._empty: set[int] = set()
        """Payloads of no characters at all: as good as not given."""
        self._tail = b""
        """An escape that the end of a chunk cut in two."""

    def feed(self, chunk: bytes | bytearray, size: int | None = None) -> list[Event]:
        """Take the next bytes of the body.

        Args:
            chunk: The bytes, of which events may be views; or a bytearray that begins with them.
            size: How many of a bytearray; by default all.

        Raises:
            ProtocolError: The body breaks a rule that is already decided; see `ProtocolError.check`.
        """
        events: list[Event] = []
        try:
            if isinstance(chunk, bytearray):
                chunk = self._out_of(chunk, len(chunk) if size is None else size, events)
            self._scan(chunk, events)
        except ProtocolError:
            self.before_fault = events
            raise
        return events

    def _out_of(self, memory: bytearray, size: int, events: list[Event]) -> bytes:
        """Take what belongs to the current payload out of memory that will be used again; return a copy of the rest."""
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

    def _scan(self, chunk: bytes, events: list[Event]) -> None:
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

    def close(self) -> ResponseDocument:
        """Say that the body has ended, and give the verdict.

        Raises:
            ProtocolError: The body is cut off, is no JSON, or is not an answer of the contract.
        """
        if self._mode is _Mode.PROLOGUE or self._mode is _Mode.COMMENT:
            raise ProtocolError("empty", "the body holds no JSON", offset=self._base)
        if self._mode is not _Mode.STRUCTURE:
            raise ProtocolError("truncated", "the body ends inside a string", offset=self._base)
        return read_answer(read_whole(bytes(self._skeleton), self._in_body), self._empty)

    def begun(self) -> ResponseDocument:
        """Read the answer as far as it has come, up to its first fault; every payload that it names has ended.

        Raises:
            ProtocolError: There is no list of images yet, or a key that decides about images has come twice.
        """
        return read_answer(read_begun(bytes(self._skeleton)), self._empty)

    # -- before the document ------------------------------------------------------------------------------------

    def _before(self, chunk: bytes, position: int, events: list[Event]) -> int:
        """Skip a byte-order mark, white space and comment lines (``: PROCESSING``) before the JSON."""
        if self._mode is _Mode.COMMENT:
            end = chunk.find(b"\n", position)
            self._count_prologue((len(chunk) if end < 0 else end + 1) - position)
            if end < 0:
                return len(chunk)
            self._mode = _Mode.PROLOGUE
            return end + 1
        byte = chunk[position : position + 1]
        if byte != b"{" and self._prologue in {b"", _BOM} and (skipped := _SKIPPED.match(chunk, position)) is not None:
            self._count_prologue(skipped.end() - position)
            return skipped.end()
        self._count_prologue(1)
        if self._base + position < len(_BOM) and _BOM.startswith(self._prologue + byte):
            self._prologue += byte
        elif self._prologue not in {b"", _BOM}:
            self._not_json(self._prologue + byte, 0)
        elif byte == b":":
            self._mode = _Mode.COMMENT
        elif byte == b"{":
            self._skeleton_at = self._base + position
            self._mode = _Mode.STRUCTURE
            return self._begin_at_once(chunk, position, events)
        else:
            self._not_json(chunk[position : position + 40], self._base + position)
        return position + 1

    def _count_prologue(self, count: int) -> None:
        self._length += count
        if self._length > self._max_skeleton:
            raise ProtocolError("size", f"over {self._max_skeleton} bytes before the JSON", offset=self._max_skeleton)

    def _not_json(self, begin: bytes, offset: int) -> None:
        shown = printable(begin.decode("utf-8", "backslashreplace"), 40)
        kind = "HTML" if begin.lstrip().startswith(b"<") else "not a JSON object"
        raise ProtocolError("json", f"the body is {kind}: it begins with {shown!r}", offset=offset)

    def _begin_at_once(self, chunk: bytes, position: int, events: list[Event]) -> int:
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
        """Copy an ordinary string into the skeleton, up to and with its closing quote."""
        start = position
        while True:
            if self._escaped:
                self._escaped = False
                position += 1
            found = _SPECIAL.search(chunk, position)
            if found is None:
                self._keep(chunk[start:], start)
                return len(chunk)
            position = found.end()
            if found[0] == b'"':
                break
            self._escaped = True
            if position == len(chunk):
                self._keep(chunk[start:], start)
                return position
        self._keep(chunk[start:position], start)
        self._end_string()
        return position

    def _end_string(self) -> None:
        self._after = len(self._skeleton)
        self._key = _deciding_key(bytes(self._skeleton[self._string : self._after - 1]))
        if self._depth == 1:
            self._in_data = self._key == "data"
        self._mode = _Mode.STRUCTURE

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
        room = self._string + _LONGEST_PEEK - len(self._skeleton)
        quote = _closing_quote(self._skeleton[self._string :], chunk[position : position + room])
        end = position + (min(room, len(chunk) - position) if quote is None else quote)
        self._keep(chunk[position:end], position)
        raw = bytes(self._skeleton[self._string :])
        if quote is None and len(raw) < _LONGEST_PEEK and not _decided(raw):
            return end
        if _unescaped(raw)[: len(_DATA_URL)].lower() != _DATA_URL:
            self._escaped = _ends_in_escape(raw)
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
            raise ProtocolError("images", f"more than {self._max_payloads} images in one answer", offset=offset)
        self._skeleton += f"{PLACEHOLDER}{self._hole}".encode()
        events.append(PayloadStart(self._hole, offset, self._entry))

    def _payload(self, chunk: bytes, position: int, events: list[Event]) -> int:
        if self._tail:
            return self._finish_escape(chunk, position, events)
        end = chunk.find(b'"', position)
        slash = chunk.find(b"\\", position, len(chunk) if end < 0 else end)
        if slash >= 0:
            # An escaped quote does not end the string; it is no base64 either, but that verdict is not ours.
            end = _first_quote(chunk, slash)
        stop = len(chunk) if end < 0 else end
        if slash < 0:
            if stop > position:
                self._emit(Payload(self._hole, memoryview(chunk)[position:stop], self._base + position), events)
        else:
            self._span(chunk[position:stop], self._base + position, events)
        if end < 0:
            return stop
        return self._shut(end, events)

    def _shut(self, quote: int, events: list[Event]) -> int:
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
        """Emit a span that may hold escapes; one that is cut in two at the end waits for the next chunk."""
        cut = _unfinished(raw)
        whole, self._tail = raw[:cut], raw[cut:]
        data, end = _plain(whole)
        if end:
            self._emit(Payload(self._hole, data, offset, whole[:end] if b"\\" in whole[:end] else None), events)
        if end < len(whole):
            raise self._bad_escape(offset + end)

    def _finish_escape(self, chunk: bytes, position: int, events: list[Event]) -> int:
        """Complete an escape that began in an earlier chunk, byte by byte: it is at most six bytes long."""
        offset = self._base + position - len(self._tail)
        while position < len(chunk):
            self._tail += chunk[position : position + 1]
            position += 1
            if (found := _ESCAPE.fullmatch(self._tail)) is not None:
                raw, self._tail = self._tail, b""
                self._emit(Payload(self._hole, _character(found), offset, raw), events)
                break
            if not _UNFINISHED_ESCAPE.fullmatch(self._tail):
                raise self._bad_escape(offset)
        return position

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

    def _in_body(self, position: int) -> int:
        """Map an offset in the skeleton to one in the body."""
        for length, offset in reversed(self._cuts):
            if position >= length:
                return offset + position - length
        return self._skeleton_at + position


_BOM = b"\xef\xbb\xbf"
_DECIDING_KEYS = {b"b64_json": "b64_json", b"url": "url", b"data": "data"}


def _deciding_key(raw: bytes) -> str | None:
    """Return the key if it is ``data`` or one that a payload may stand at."""
    if len(raw) > _LONGEST_KEY or b"\\" not in raw:
        return _DECIDING_KEYS.get(raw)
    try:
        key = json.loads(b'"' + raw + b'"', strict=False)
    except ValueError:  # the skeleton's verdict will say so
        return None
    return key if key in _DECIDING_KEYS.values() else None


def _first_quote(chunk: bytes, slash: int) -> int:
    """Find the quote that ends the string, from a backslash on; -1 if it is not in this chunk."""
    position = slash
    while True:
        found = _SPECIAL.search(chunk, position)
        if found is None:
            return -1
        if found[0] == b'"':
            return found.start()
        position = found.end() + 1


def _closing_quote(before: bytes | bytearray, more: bytes) -> int | None:
    """Find the closing quote of a string of which `before` has been read; an index into `more`, or None."""
    start = 1 if _ends_in_escape(before) else 0
    quote = more.find(b'"', start)
    slash = more.find(b"\\", start, quote if quote >= 0 else len(more))
    if slash >= 0:
        quote = _first_quote(more, slash)
    return quote if quote >= 0 else None


def _ends_in_escape(raw: bytes | bytearray) -> bool:
    return (len(raw) - len(raw.rstrip(b"\\"))) % 2 == 1


def _unfinished(raw: bytes) -> int:
    """Return where an escape begins that the end of `raw` cuts in two, or its length."""
    found = _UNFINISHED_ESCAPE.search(raw, max(0, len(raw) - 5))
    if found is None:
        return len(raw)
    return found.start() if _ends_in_escape(raw[: found.start() + 1]) else len(raw)


def _plain(raw: bytes) -> tuple[bytes, int]:
    """Undo the escapes, up to the first that JSON does not have; return the characters and where that stands."""
    data = raw.replace(b"\\/", b"/") if b"\\\\" not in raw else raw
    if b"\\" not in data:
        return data, len(raw)
    parts: list[bytes] = []
    position = 0
    while (slash := raw.find(b"\\", position)) >= 0:
        found = _ESCAPE.match(raw, slash)
        parts.append(raw[position:slash])
        if found is None:
            return b"".join(parts), slash
        parts.append(_character(found))
        position = found.end()
    return b"".join((*parts, raw[position:])), len(raw)


def _unescaped(raw: bytes) -> bytes:
    return _ESCAPE.sub(_character, raw)


def _decided(raw: bytes) -> bool:
    """Tell whether the beginning of a string is enough to know that it is, or is not, a ``data:`` URL."""
    known = _unescaped(raw[: _unfinished(raw)])[: len(_DATA_URL)].lower()
    return len(known) == len(_DATA_URL) or not _DATA_URL.startswith(known)


def _character(found: re.Match[bytes]) -> bytes:
    """Return the character that an escape stands for; anything but ASCII as one byte that base64 refuses."""
    if found[1] is not None:
        return _PLAIN[found[1]]
    code = int(found[2], 16)
    return bytes((min(code, 0x80),))
