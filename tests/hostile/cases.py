"""Invalid responses, byte by byte, and the error that a client must raise for each.

A table: how an answer is said, and the typed error, the check, the place and the class of failure that it is. Each
answers a request for two images.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import zlib
from itertools import repeat
from typing import TYPE_CHECKING

import attrs

from imagen_async import (
    DisconnectedError,
    FilteredError,
    ImagenError,
    OverloadedError,
    ProtocolError,
    RejectedError,
    Status,
    TimeoutExceededError,
)
from imagen_async.exceptions import FailureClass
from tests.hostile.bodies import (
    BODY,
    CUT,
    SECOND,
    TEXTS,
    data_of,
    in_chunks,
    second_as,
    text_of,
)
from tests.pictures import chunk, encoded, ihdr, png
from tests.servers import Handler, answer, reply

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tests.servers import Asked

__all__ = ["CASES", "FINE", "SLOW", "Case"]


@attrs.frozen(kw_only=True)
class Case:
    """One hostile response.

    Attributes:
        said: Says it.
        error: What it is.
        check: The check of a `ProtocolError`.
        where: What the error's text holds, to say where.
        failure: What the attempt means for money; None if no attempt failed.
        status: How the job ends if it is not tried again.
        kept: How many of the two images are kept.
        step: Seconds that have to pass, again and again, until it is over.
    """

    said: Handler
    error: type[ImagenError] = ProtocolError
    check: str | None = None
    where: str
    failure: FailureClass | None = FailureClass.AMBIGUOUS
    status: Status = Status.IN_DOUBT
    kept: int = 0
    step: float = 0.0


def whole(body: bytes, *, headers: str = "", status: int = 200) -> Handler:
    return answer(reply(body, headers=headers, status=status))


def broken(body: bytes, check: str, where: str, *, kept: int = 0) -> Case:
    """A complete 200 whose body breaks the contract."""
    status = Status.PARTIAL if kept else Status.IN_DOUBT
    return Case(said=whole(body), check=check, where=where, kept=kept, status=status)


def lost(*parts: bytes, where: str, check: str | None = None, kept: int = 1) -> Case:
    """A response that ends early, by default in the second image."""
    return Case(
        said=answer(*parts, close=True),
        error=ProtocolError if check else DisconnectedError,
        check=check,
        where=where,
        kept=kept,
        status=Status.PARTIAL if kept else Status.IN_DOUBT,
    )


def filtered(*items: object) -> Case:
    return Case(
        said=whole(data_of(*items)),
        error=FilteredError,
        where="the response has none",
        failure=None,
        status=Status.FILTERED,
    )


def in_second(text: str, where: str) -> Case:
    """Base64 that is none, in the second image."""
    return broken(second_as(text), "base64", where, kept=1)


def no_image(image: bytes, check: str, where: str) -> Case:
    """A second image that is none."""
    return broken(second_as(text_of(image)), check, f"{where} in item 1", kept=1)


CLOSED = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
GZIP = "Content-Encoding: gzip\r\n"
PACKED = gzip.compress(BODY)

CUTS = {
    "headers cut off": lost(b"HTTP/1.1 200 OK\r\nContent-Le", where="within the headers", kept=0),
    "no byte of an answer": lost(where="closed the connection before its response", kept=0),
    "truncated Content-Length": lost(reply(BODY[:CUT], length=len(BODY)), where=f"at byte {CUT}"),
    "truncated chunked": lost(CHUNKED + in_chunks(BODY[:CUT], 777), where=f"at byte {CUT}"),
    "truncated within a chunk": lost(CHUNKED + in_chunks(BODY, len(BODY))[:CUT], where=f"at byte {CUT - 6}"),
    "cut off under Connection: close": lost(CLOSED + BODY[:CUT], where=f"at byte {CUT}", check="truncated"),
    "cut off under Connection: close, before the body": lost(CLOSED, where="at byte 0", check="empty", kept=0),
    "cut-off gzip": Case(
        said=whole(PACKED[: len(PACKED) * 3 // 4], headers=GZIP),
        check="truncated",
        where="at byte 1",
        kept=1,
        status=Status.PARTIAL,
    ),
    "cut-off gzip, Content-Length as well": lost(
        reply(PACKED[: len(PACKED) * 3 // 4], length=len(PACKED), headers=GZIP), where="at byte 1"
    ),
    "gzip that is none": Case(said=whole(BODY, headers=GZIP), check="content-encoding", where="Content-Encoding: gzip"),
    "an encoding of another world": Case(
        said=whole(b"7kSt" + BODY, headers="Content-Encoding: zpaq\r\n"),
        check="content-encoding",
        where="Content-Encoding: zpaq",
    ),
    "two encodings": Case(
        said=whole(PACKED, headers="Content-Encoding: gzip, gzip\r\n"),
        check="content-encoding",
        where="Content-Encoding: gzip, gzip",
    ),
    "not HTTP": lost(b"SSH-2.0-OpenSSH_9.6\r\n\r\n", check="http", where="invalid HTTP", kept=0),
    "a chunk without a size": lost(CHUNKED + b"zz\r\n" + BODY, check="http", where="chunk size", kept=0),
}

PAGE = b"<!DOCTYPE html>\n<html><title>Checking your browser</title></html>\n"
NESTED = 100_000
OVER = json.dumps({"x": "y" * 300_000}).encode()

DOCUMENTS = {
    "an empty 200": broken(b"", "empty", "at byte 0"),
    "HTML in a 200": broken(PAGE, "json", "HTML.* at byte 0"),
    "an error object in a 200": broken(
        b'{"error":{"message":"Image generation failed","code":"upstream_error"}}',
        "error-object",
        "Image generation failed",
    ),
    "data missing": broken(b'{"created":7}', "data", "no list of images"),
    "data null": broken(b'{"created":7,"data":null}', "data", "no list of images"),
    "data is text": broken(b'{"data":"none"}', "data", "data is not a list"),
    "a list in place of the object": broken(b'[{"b64_json":"aGk="}]', "json", "at byte 0"),
    "no entry": filtered(),
    "an empty entry": filtered({}),
    "a null image": filtered({"b64_json": None}),
    "a null image and a null link": filtered({"b64_json": None, "url": None}),
    "an entry that is not an object": broken(data_of("image"), "item", "in item 0"),
    "b64_json is a number": broken(data_of({"b64_json": 7}), "b64_json", "in item 0"),
    "more items than n": broken(data_of(*repeat({"b64_json": TEXTS[0]}, 3)), "images", "more images than the 2"),
    "a thousand items": broken(data_of(*repeat({"b64_json": "aGk="}, 1000)), "images", "more images than the 2"),
    "a link instead of base64": broken(data_of({"url": "https://images.invalid/7"}), "url", "in item 0"),
    "data twice": broken(
        data_of({"b64_json": TEXTS[0]}).replace(b"}]}", b'}],"data":[]}'),
        "duplicate-key",
        f"'data'.* at byte {len(data_of({'b64_json': TEXTS[0]}))}",
    ),
    "an image twice in one entry": broken(
        data_of({"b64_json": TEXTS[0]}).replace(b'"}]', b'","b64_json":"aGk="}]'),
        "duplicate-key",
        "'b64_json'.* at byte",
    ),
    "nested 100,000 deep": broken(b'{"data":' + b"[" * NESTED + b"]" * NESTED + b"}", "depth", "at byte 71"),
    "objects nested 100,000 deep": broken(b'{"a":' * NESTED + b"1" + b"}" * NESTED, "depth", "at byte 320"),
    # Python up to 3.12 points at the brace, later versions at the comma.
    "a comma too many": broken(b'{"data":[],}', "json", r"at byte 1[01]\b"),
    "not UTF-8": broken(b'{"created":"\xff","data":[]}', "utf-8", "at byte 12"),
    "a number of ten thousand digits": broken(b'{"created":' + b"9" * 10_000 + b',"data":[]}', "json", "at byte"),
    "300 KB beside the images": broken(OVER, "size", "at byte 262144"),
    "300 KB of white space": broken(b" " * 300_000 + BODY, "size", "at byte 262144"),
    "300 KB of empty comments": broken(b":\n" * 150_000 + BODY, "size", "at byte 262144"),
    "nothing but a byte-order mark": broken(b"\xef\xbb\xbf", "empty", "at byte 3"),
    "half a byte-order mark": broken(b"\xef\xbb" + BODY, "json", "at byte 0"),
    "a comment without end": broken(b": PROCESSING" * 9, "empty", "at byte 108"),
}

BAD = TEXTS[1]
IMAGES = {
    "a bad character": in_second(BAD[:4000] + "*" + BAD[4001:], f"in item 1 at byte {CUT}"),
    "a character beyond ASCII": in_second(BAD[:4000] + "\\u00e9" + BAD[4006:], f"in item 1 at byte {CUT}"),
    "an escape that JSON lacks": broken(second_as(BAD[:4000] + "\\x41" + BAD[4004:]), "json", f"at byte {CUT}", kept=1),
    "a padding too long": in_second(BAD.rstrip("=") + "====", "in item 1 at byte"),
    "half a padding": in_second(BAD.rstrip("=") + "=", "in item 1 at byte"),
    "padding where none belongs": in_second(text_of(SECOND[:-1]) + "=", "in item 1 at byte"),
    "data after the padding": in_second(BAD[:3999] + "=" + BAD[4000:], f"in item 1 at byte {CUT}"),
    "a text that stops in mid-byte": in_second(BAD[:4001], f"in item 1 at byte {CUT + 1}"),
    "bits left over": in_second(BAD[:4000] + "AB==", f"in item 1 at byte {CUT + 1}"),
    "no image": no_image(b"The image could not be rendered; try again later.\n", "image", "at byte 0 of the image"),
    "a PNG without IEND": no_image(SECOND[:-12], "image-end", f"at byte {len(SECOND) - 12} of the image"),
    "a PNG with a wrong checksum": no_image(
        SECOND[:5000] + b"!" + SECOND[5001:], "image-checksum", f"at byte {len(SECOND) - 16} of the image"
    ),
    "a PNG and more": no_image(SECOND + b"more", "image-end", f"at byte {len(SECOND)} of the image"),
    "60,000 × 60,000 pixels": no_image(
        png(ihdr(60_000, 60_000), chunk(b"IDAT", bytes(100)), chunk(b"IEND")),
        "image-size",
        "60000×60000 pixels, .* at byte 33 of the image",
    ),
    "a JPEG cut off": no_image(encoded("JPEG")[:-2], "image-end", "of the image"),
    "both images broken": broken(data_of({"b64_json": "aGk*"}, {"b64_json": "aGk*"}), "base64", "in item 0 at byte"),
}


def endless(head: bytes, part: bytes, *, pause: float = 0.0) -> Handler:
    """A handler that sends `part` without end."""

    async def handler(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(pause)

    return handler


def dripping(head: bytes, body: bytes) -> Handler:
    """A handler that sends one byte a second."""

    async def handler(_: Asked, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        for place in range(len(body)):
            writer.write(body[place : place + 1])
            await writer.drain()
            await asyncio.sleep(1.0)

    return handler


def without_end(status: int, part: bytes = b"so sorry. " * 6000) -> Handler:
    return endless(b"HTTP/1.1 %d Said\r\nConnection: close\r\n\r\n" % status, part)


ERRORS = {
    "an endless error body": Case(said=without_end(500), error=OverloadedError, where="so sorry.*HTTP 500"),
    "an endless refusal": Case(
        said=without_end(400),
        error=RejectedError,
        where="so sorry.*HTTP 400",
        failure=FailureClass.REJECTED,
        status=Status.FAILED,
    ),
    "an error in an encoding of another world": Case(
        said=whole(b"~~~", status=400, headers="Content-Encoding: zpaq\r\n"),
        error=RejectedError,
        where="HTTP 400",
        failure=FailureClass.REJECTED,
        status=Status.FAILED,
    ),
    "an error that is not gzip": Case(
        said=whole(b"~~~", status=400, headers=GZIP),
        error=RejectedError,
        where="HTTP 400",
        failure=FailureClass.REJECTED,
        status=Status.FAILED,
    ),
    "an endless 200": Case(said=without_end(200), check="json", where="at byte 0"),
    "endless comments": Case(said=without_end(200, b": PROCESSING\n" * 999), check="size", where="at byte"),
    "an unknown status": Case(said=whole(b"{}", status=299), check="status", where="status 299"),
    "another 2xx": Case(said=whole(BODY, status=201), check="status", where="status 201"),
}

SLOW = {
    "silence": Case(said=answer(), error=TimeoutExceededError, where="read timeout of 300 s", step=301.0),
    "headers, then silence": Case(
        said=answer(reply(b"", length=100)), error=TimeoutExceededError, where="read timeout of 300 s", step=301.0
    ),
    "an image, then silence": Case(
        said=answer(reply(BODY[:CUT], length=len(BODY))),
        error=TimeoutExceededError,
        where="read timeout of 300 s",
        kept=1,
        status=Status.PARTIAL,
        step=301.0,
    ),
    "a byte a second": Case(
        said=dripping(reply(b"", length=len(BODY)), BODY),
        error=TimeoutExceededError,
        where="total timeout of 900 s",
        step=1.0,
    ),
    "headers a byte a second": Case(
        said=dripping(b"", reply(BODY, headers="X-Padding: " + "x" * 2000 + "\r\n")),
        error=TimeoutExceededError,
        where="read timeout of 300 s",
        step=1.0,
    ),
    "an error body a byte a second": Case(
        said=dripping(reply(b"", status=500, length=9999), b"x" * 9999),
        error=OverloadedError,
        where="HTTP 500",
        step=1.0,
    ),
}
"""Slow cases; their time is that of the event loop's clock."""

CASES: Mapping[str, Case] = {**CUTS, **DOCUMENTS, **IMAGES, **ERRORS}


def respelled(change: object) -> bytes:
    assert callable(change)
    return data_of(*({"b64_json": change(text)} for text in TEXTS))


def in_lines(text: str) -> str:
    return "\r\n".join(text[at : at + 76] for at in range(0, len(text), 76)) + "\n"


def raw_lines(body: bytes) -> bytes:
    """Line ends in a string as they are, which JSON does not allow."""
    return body.replace(b"\\r\\n", b"\r\n").replace(b"\\n", b"\n")


def deflated(body: bytes) -> bytes:
    return zlib.compress(body)


def bytewise(body: bytes) -> Iterable[bytes]:
    return (body[place : place + 1] for place in range(len(body)))


FINE: Mapping[str, Handler] = {
    "the contract's answer": whole(BODY),
    "white space in the base64": whole(respelled(in_lines)),
    "line ends as they are in the base64": whole(raw_lines(respelled(in_lines))),
    "white space everywhere": whole(b"\r\n\t " + json.dumps(json.loads(BODY), indent=7).encode() + b"\n \r\n"),
    "a data: prefix": whole(respelled(lambda text: f"data:image/png;base64,{text}")),
    "a data: URL at url": whole(data_of(*({"url": f"data:image/png;base64,{text}"} for text in TEXTS))),
    "the URL-safe alphabet": whole(respelled(lambda text: text.translate(str.maketrans("+/", "-_")))),
    "padding left out": whole(respelled(lambda text: text.rstrip("="))),
    r"\/": whole(respelled(str).replace(b"/", rb"\/")),
    "a byte-order mark": whole(b"\xef\xbb\xbf" + BODY),
    "comment lines": whole(b": PROCESSING\n\n: PROCESSING\r\n" + BODY),
    "unknown keys": whole(
        data_of(*({"b64_json": text, "revised_prompt": 'a "fox"', "url": None, "x": [{}]} for text in TEXTS), usage={})
    ),
    "keys in any order": whole(json.dumps(dict(reversed(json.loads(BODY).items()))).encode()),
    "gzip": whole(PACKED, headers=GZIP),
    "gzip in capitals": whole(PACKED, headers=GZIP.upper()),
    "gzip in two members": whole(gzip.compress(BODY[:CUT]) + gzip.compress(BODY[CUT:]), headers=GZIP),
    "deflate": whole(deflated(BODY), headers="Content-Encoding: deflate\r\n"),
    "identity": whole(BODY, headers="Content-Encoding: identity\r\n"),
    "HTTP chunks of a byte": answer(CHUNKED + in_chunks(BODY, 1) + b"0\r\n\r\n"),
    "a write for each of its bytes": answer(reply(b"", length=len(BODY)), *bytewise(BODY)),
    "Connection: close": answer(CLOSED + BODY, close=True),
    "HTTP/1.0": answer(b"HTTP/1.0 200 OK\r\n\r\n" + BODY, close=True),
    "a hundred headers": whole(BODY, headers="".join(f"X-{number}: {number}\r\n" for number in range(90))),
}
