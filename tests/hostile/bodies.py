"""Two valid images, the valid response around them, and offsets in it."""

from __future__ import annotations

import base64
import hashlib
import json

from tests.pictures import chunk, ihdr, png
from tests.servers import body_of

__all__ = [
    "ASKED",
    "BODY",
    "CUT",
    "FIRST",
    "SECOND",
    "SECOND_AT",
    "TEXTS",
    "data_of",
    "deviating",
    "in_chunks",
    "second_as",
    "text_of",
]

ASKED = 2
"""Images that every request here asks for."""


def _grain(seed: int) -> bytes:
    """Bytes that no compression makes smaller: a cut in the compressed body is one in the image."""
    return b"".join(hashlib.sha256(b"%d %d" % (seed, block)).digest() for block in range(300))


FIRST, SECOND = (png(ihdr(side, side), chunk(b"IDAT", _grain(side)[side:]), chunk(b"IEND")) for side in (1, 2))
"""Their base64 ends with one ``=`` and with two."""
TEXTS = tuple(base64.b64encode(image).decode() for image in (FIRST, SECOND))
BODY = body_of(FIRST, SECOND)
SECOND_AT = BODY.index(TEXTS[1].encode())
"""Where the second image's text begins."""
CUT = SECOND_AT + 4000
"""A place in the second image."""


def text_of(image: bytes) -> str:
    return base64.b64encode(image).decode()


def data_of(*items: object, **others: object) -> bytes:
    """A response with these entries of ``data``."""
    return json.dumps({"created": 7, **others, "data": items}).encode()


def second_as(text: str) -> bytes:
    """The valid response with another text for its second image."""
    return BODY[:SECOND_AT] + text.encode() + BODY[SECOND_AT + len(TEXTS[1]) :]


def deviating(old: str, new: str) -> bytes:
    """The valid response with one text replaced."""
    spelled = BODY.decode().replace(old, new)
    assert spelled != BODY.decode()
    return spelled.encode()


def in_chunks(body: bytes, size: int) -> bytes:
    """A body in HTTP chunks, without the last one, which is empty."""
    parts = (body[at : at + size] for at in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)
