"""Splits bytes into numbered lines of text, in constant memory.

A line that is too long, is not UTF-8, or holds NUL bytes is returned with its faults and does not affect other lines.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import attrs

from imagen_async.exceptions import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["LINE_LIMIT", "Line", "LineStream", "read_lines"]

LINE_LIMIT = 1 << 20
"""Longest line, in bytes with its end. The longest prompt that a model accepts is some hundred times shorter."""

_KEPT = 256
_BOM = b"\xef\xbb\xbf"
_NOT_TEXT = (
    (b"\xff\xfe", "the file is UTF-16 or UTF-32: save it as UTF-8"),
    (b"\xfe\xff", "the file is UTF-16: save it as UTF-8"),
    (b"\x00\x00\xfe\xff", "the file is UTF-32: save it as UTF-8"),
    (b"\x1f\x8b", "the file is compressed with gzip: let its name end in .gz, or unpack it"),
    (b"PK\x03\x04", "the file is a zip archive, perhaps a spreadsheet: export it as CSV"),
    (b"PAR1", "the file is a Parquet file: let its name end in .parquet"),
)


class LineStream(Protocol):
    """Any binary stream with lines."""

    def readline(self, size: int, /) -> bytes:
        """Return at most `size` bytes up to a newline and with it; nothing at the end."""
        ...


@attrs.frozen
class Line:
    """One physical line.

    Attributes:
        number: From 1.
        text: With its end; of a line with faults what could be decoded, only to keep quotation marks in step.
        faults: Why the line cannot be used; empty if it can.
        cut: Whether `text` is only the beginning of a line that was too long.
    """

    number: int
    text: str
    faults: tuple[str, ...] = ()
    cut: bool = False


def read_lines(stream: LineStream, source: str) -> Iterator[Line]:
    r"""Read lines lazily, each as soon as its newline has arrived. Only ``\n`` ends a line; a BOM is dropped.

    Raises:
        InvalidInputError: The first bytes are those of another format or encoding.

    Example:
        >>> import io
        >>> [line.text for line in read_lines(io.BytesIO(b"A red fox\nAn owl"), "prompts.txt")]
        ['A red fox\n', 'An owl']
    """
    number = 0
    while raw := stream.readline(LINE_LIMIT + 1):
        number += 1
        too_long = len(raw) > LINE_LIMIT
        if too_long:
            _skip_rest(raw, stream)
        if number == 1:
            _refuse_other_formats(raw, source)
            raw = raw.removeprefix(_BOM)
        yield _too_long(number, raw) if too_long else _decoded(number, raw)


def _skip_rest(raw: bytes, stream: LineStream) -> None:
    while raw and not raw.endswith(b"\n"):
        raw = stream.readline(LINE_LIMIT)


def _refuse_other_formats(raw: bytes, source: str) -> None:
    for magic, text in _NOT_TEXT:
        if raw.startswith(magic):
            raise InvalidInputError(source, [(1, (text,))], 1)


def _too_long(number: int, raw: bytes) -> Line:
    text = raw[:_KEPT].decode("utf-8", "replace") + "\n"
    return Line(number, text, (f"the line is longer than {LINE_LIMIT:,} bytes",), cut=True)


def _decoded(number: int, raw: bytes) -> Line:
    try:
        text, faults = raw.decode("utf-8"), []
    except UnicodeDecodeError as error:
        bad = f"byte 0x{raw[error.start]:02x} at position {error.start + 1} of the line is not UTF-8"
        text, faults = raw.decode("utf-8", "replace"), [f"{bad}: save the file as UTF-8"]
    if "\0" in text:
        faults.append("the line holds a NUL byte: is the file UTF-16? Save it as UTF-8")
    return Line(number, text, tuple(faults))
