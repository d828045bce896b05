"""Builds response bodies as lists of pieces: JSON around base64 that is shared, not copied.

A body records where each image is complete, so that the sender of its pieces can count the complete images sent.
"""

from __future__ import annotations

import gzip
import json
from types import MappingProxyType
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from imagen_async.sandbox.pictures import Picture

__all__ = ["WRAPPERS", "Body", "BodyItem", "image_item", "json_body", "url_item"]


@attrs.frozen
class Body:
    """A response body in pieces.

    Attributes:
        pieces: Concatenated, they are the body.
        ends: Offsets at which the valid images are complete, ascending.
    """

    pieces: tuple[bytes, ...] = ()
    ends: tuple[int, ...] = ()

    @property
    def size(self) -> int:
        """Length of the body in bytes."""
        return sum(map(len, self.pieces))

    def images_in(self, sent: int) -> int:
        """Return the number of valid images that are complete in the first `sent` bytes."""
        return sum(end <= sent for end in self.ends)


@attrs.frozen
class BodyItem:
    """One element of ``data``.

    Attributes:
        pieces: Concatenated, they are a JSON value.
        valid: Whether it is an image that a client can store.
    """

    pieces: tuple[bytes, ...]
    valid: bool = True

    @classmethod
    def of(cls, value: object) -> BodyItem:
        """Return an item with any JSON value, which is not an image."""
        return cls((json.dumps(value).encode(),), valid=False)


def image_item(base64: Iterable[bytes], *, valid: bool = True) -> BodyItem:
    """Return an item of the contract, around base64 in pieces."""
    return BodyItem((b'{"b64_json":"', *base64, b'"}'), valid=valid)


def url_item(picture: Picture, output_format: str) -> BodyItem:
    """Return an item that holds the image as a ``data:`` URL under ``url``."""
    return BodyItem((f'{{"url":"data:image/{output_format};base64,'.encode(), *picture.base64, b'"}'))


def json_body(items: Sequence[BodyItem], created: int, **others: object) -> Body:
    """Return a body of the contract, with further keys before ``data``."""
    opening = json.dumps({"created": created, **others}, separators=(",", ":"))[:-1] + ',"data":['
    return _around(items, opening.encode(), b"]}")


def _around(items: Sequence[BodyItem], opening: bytes, closing: bytes, comma: bytes = b",") -> Body:
    pieces, ends, at = [opening], [], len(opening)
    for position, item in enumerate(items):
        added = (comma, *item.pieces) if position else item.pieces
        pieces.extend(added)
        at += sum(map(len, added))
        if item.valid:
            ends.append(at)
    return Body((*pieces, closing), tuple(ends))


def _respelled(respell: Callable[[str], str]) -> Callable[[Sequence[Picture], int], Body]:
    def wrap(pictures: Sequence[Picture], created: int) -> Body:
        spelled = (respell(b"".join(picture.base64).decode("ascii")) for picture in pictures)
        return json_body([image_item((text.encode(),)) for text in spelled], created)

    return wrap


def _before(prefix: bytes) -> Callable[[Sequence[Picture], int], Body]:
    def wrap(pictures: Sequence[Picture], created: int) -> Body:
        plain = json_body(_items(pictures), created)
        return Body((prefix, *plain.pieces), tuple(len(prefix) + end for end in plain.ends))

    return wrap


def _items(pictures: Sequence[Picture]) -> list[BodyItem]:
    return [image_item(picture.base64) for picture in pictures]


def _with_prefix(text: str) -> str:
    # The base64 of a JPEG's first bytes.
    kind = "jpeg" if text.startswith("/9j/") else "png"
    return f"data:image/{kind};base64,{text}"


def _url_safe(text: str) -> str:
    return text.translate(str.maketrans("+/", "-_"))


def _escaped(text: str) -> str:
    return f"\\u{ord(text[0]):04x}" + text[1:].replace("/", "\\/")


def _in_lines(text: str) -> str:
    return "\\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + "\\n"


def _white_space(pictures: Sequence[Picture], created: int) -> Body:
    return _around(
        _items(pictures), f'\r\n \t{{ "created" : {created} ,\n "data" : [ '.encode(), b" ]\n}\n\n ", b" ,\n"
    )


def _data_first(pictures: Sequence[Picture], created: int) -> Body:
    return _around(_items(pictures), b'{"data":[', f'],"created":{created}}}'.encode())


def _unknown_keys(pictures: Sequence[Picture], created: int) -> Body:
    extra = b',"revised_prompt":"a prompt, \\u201crevised\\u201d","url":null}'
    items = [BodyItem((*image_item(picture.base64).pieces[:-1], b'"', extra)) for picture in pictures]
    usage = {"input_tokens": 4, "output_tokens": 0, "details": {"data": [{"b64_json": None}]}}
    return json_body(items, created, background=None, quality="hd", usage=usage)


def _gzipped(pictures: Sequence[Picture], created: int) -> Body:
    plain = json_body(_items(pictures), created)
    packed = gzip.compress(b"".join(plain.pieces), compresslevel=1)
    # Where an image ends in a compressed body is unknown, so all are complete at the end.
    return Body((packed,), (len(packed),) * len(plain.ends))


WRAPPERS: Mapping[str, Callable[[Sequence[Picture], int], Body]] = MappingProxyType(
    {
        "data-prefix": _respelled(_with_prefix),
        "newlines": _respelled(_in_lines),
        "url-safe": _respelled(_url_safe),
        "no-padding": _respelled(lambda text: text.rstrip("=")),
        "escaped": _respelled(_escaped),
        "bom": _before(b"\xef\xbb\xbf"),
        "comments": _before(b": PROCESSING\n\n: PROCESSING\n\n"),
        "white-space": _white_space,
        "data-first": _data_first,
        "unknown-keys": _unknown_keys,
        "gzip": _gzipped,
    }
)
"""Functions that build a valid body in an unusual form, by the name of the form."""
