"""Answers that repeat the key, in every place where a gateway, or what stands before it, could put it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

from tests.canary import CANARY
from tests.pictures import png
from tests.servers import reply

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["ANSWERS"]

STATUSES = [
    *(300, 301, 302, 303, 304, 305, 307, 308),
    *(400, 401, 402, 403, 404, 405, 406, 407, 408, 409, 410, 411, 412, 413, 414, 415, 416, 417, 418),
    *(421, 422, 423, 424, 425, 426, 428, 429, 431, 451, 460, 499),
    *(
        500,
        501,
        502,
        503,
        504,
        505,
        506,
        507,
        508,
        510,
        511,
        520,
        521,
        522,
        523,
        524,
        525,
        526,
        527,
        529,
        530,
        598,
        599,
    ),
]
SPELLED = "".join(f"\\u{ord(letter):04x}" for letter in CANARY)
INSIDE = json.dumps({"error": {"message": f"no {CANARY}", "code": CANARY}})
IMAGE = base64.b64encode(png()).decode()


def error(**fields: object) -> bytes:
    return json.dumps({"error": fields}).encode()


BODIES: dict[str, bytes] = {
    "message": error(message=f"Incorrect API key provided: {CANARY}. Find yours …"),
    "message, cut": error(message="x" * 480 + CANARY),
    "message, cut at the end of the secret": error(message="x" * 460 + CANARY),
    "message, cut in the prefix": error(message="x" * 495 + CANARY),
    "half of it": error(message=f"the key {CANARY[:27]}… is unknown"),
    "the other half": error(message=f"the key …{CANARY[27:]} is unknown"),
    "every other part": error(message=" ".join(CANARY[at : at + 11] for at in range(0, 51, 11))),
    "twice, joined": error(message=CANARY + CANARY),
    "spelled in escapes": b'{"error": {"message": "no ' + SPELLED.encode() + b'"}}',
    "base64": error(message=base64.b64encode(CANARY.encode()).decode()),
    "base64 of the header": error(message=base64.b64encode(f"Bearer {CANARY}".encode()).decode()),
    "base64 of a pair": error(message=base64.b64encode(f"ab:{CANARY}".encode()).decode()),
    "a URL": error(message=f"GET /v1?key={CANARY}&n=1"),
    "code": error(message="no", code=CANARY),
    "type": error(message="no", type=CANARY),
    "param": error(message="no", param=f"headers.Authorization: Bearer {CANARY}"),
    "Google's status": error(message="no", status=CANARY, details=[{"retryDelay": CANARY}]),
    "FastAPI's detail": json.dumps({"detail": [{"loc": ["header", CANARY], "msg": f"bad {CANARY}"}]}).encode(),
    "FastAPI's sentence": json.dumps({"detail": f"bad {CANARY}"}).encode(),
    "JSON in the message": error(message=INSIDE),
    "msg": json.dumps({"msg": CANARY}).encode(),
    "error is text": json.dumps({"error": f"no {CANARY}"}).encode(),
    "a table in the message's place": error(message={"key": CANARY}),
    "a page": f"<html><h1>401</h1><p>{CANARY}".encode(),
    "a long page": b"<p>" + b"x" * 190 + CANARY.encode(),
    "plain text": f"bad token: Bearer {CANARY}\n".encode(),
    "not UTF-8": b"\xff\xfe" + CANARY.encode() + b"\x80",
    "UTF-16": CANARY.encode("utf-16"),
    "a request id in the message": error(message=f"no (request id: {CANARY})"),
    "half a document": b'{"error": {"message": "' + CANARY.encode(),
    "support codes": error(message=f"Support codes: 1, 2 {CANARY}"),
    "a list": json.dumps([CANARY, {"a": CANARY}]).encode(),
    "deep": b'{"error":' * 2000 + CANARY.encode(),
}
HEADERS: dict[str, str] = {
    "no header": "",
    "x-request-id": f"x-request-id: {CANARY}\r\n",
    "x-request-id, cut": f"x-request-id: {'r' * 100}{CANARY}\r\n",
    "X-Oneapi-Request-Id": f"X-Oneapi-Request-Id: for {CANARY}\r\n",
    "x-litellm-call-id": f"x-litellm-call-id: {CANARY[:30]}\r\n",
    "Location": f"Location: https://elsewhere.example/?key={CANARY}\r\n",
    "Set-Cookie": f"Set-Cookie: key={CANARY}; Path=/\r\n",
    "a bad cookie": f"Set-Cookie: a({CANARY})=x; Path=/\r\nSet-Cookie: {CANARY}\r\n",
    "WWW-Authenticate": f'WWW-Authenticate: Bearer error="invalid_token", token="{CANARY}"\r\n',
    "Retry-After": f"Retry-After: {CANARY}\r\n",
    "retry-after-ms": f"retry-after-ms: {CANARY}\r\nx-should-retry: {CANARY}\r\n",
    "Date": f"Date: {CANARY}\r\nRetry-After: Wed, 21 Oct 2015 07:28:00 GMT\r\n",
    "Content-Type": f"Content-Type: text/{CANARY}; charset={CANARY}\r\n",
    "a header's name": f"X-{CANARY}: 1\r\n",
    "Server": f"Server: {CANARY}\r\nVia: 1.1 {CANARY}\r\nLink: <https://x.example/{CANARY}>; rel={CANARY}\r\n",
}


def refusals() -> Iterator[tuple[str, bytes]]:
    bodies, headers = list(BODIES.items()), list(HEADERS.items())
    for number, status in enumerate(STATUSES):
        for turn in range(2):
            place, body = bodies[(2 * number + turn) % len(bodies)]
            name, lines = headers[(number + 7 * turn) % len(headers)]
            yield f"{status}, {place}, {name}", reply(body, status=status, headers=lines)
    for place, body in bodies:
        yield f"400, {place}", reply(body, status=400)
    for name, lines in headers:
        yield f"422, {name}", reply(b"", status=422, headers=lines)


def good(**more: Any) -> bytes:
    return json.dumps({"created": 7, "data": [{"b64_json": IMAGE}], **more}).encode()


def entry(**fields: Any) -> bytes:
    return json.dumps({"created": 7, "data": [{**fields}]}).encode()


DOCUMENTS: dict[str, bytes] = {
    "an error object": error(message=f"The key {CANARY} is odd"),
    "an error in text": json.dumps({"error": CANARY}).encode(),
    "an error of tables": json.dumps({"error": {"a": {"b": CANARY}}}).encode(),
    "a long error": error(message="x" * 270 + CANARY),
    "data is text": json.dumps({"data": CANARY}).encode(),
    "data is a table": json.dumps({"data": {CANARY: CANARY}}).encode(),
    "no data": json.dumps({"key": CANARY}).encode(),
    "an entry is text": json.dumps({"data": [CANARY]}).encode(),
    "an image and an entry of text": json.dumps({"data": [{"b64_json": IMAGE}, CANARY]}).encode(),
    "b64_json is the key": entry(b64_json=CANARY),
    "b64_json is a table": entry(b64_json={"key": CANARY}),
    "b64_json is base64 of the key": entry(b64_json=base64.b64encode(CANARY.encode()).decode()),
    "the key before the image": entry(b64_json=f"{CANARY} {IMAGE}"),
    "the key behind the image": entry(b64_json=f"{IMAGE}{CANARY}"),
    "a data URL's type": entry(b64_json=f"data:image/{CANARY};base64,{IMAGE[:-8]}"),
    "a link": entry(url=f"https://images.example/{CANARY}.png"),
    "a link and details": entry(url="https://images.example/x.png", revised_prompt=CANARY),
    "all filtered, with a reason": entry(raiFilteredReason=f"not for {CANARY}. Support codes: 1"),
    "all filtered, with a long reason": entry(raiFilteredReason="x" * 280 + CANARY),
    "reasons of the whole": json.dumps({"data": [], "raiMediaFilteredReasons": [CANARY, f"b {CANARY}"]}).encode(),
    "a revised prompt": entry(b64_json=IMAGE, revised_prompt=f"a fox, paid with {CANARY}"),
    "spelled in a revised prompt": good().replace(b'"b64_json"', f'"revised_prompt": "{SPELLED}", "b64_json"'.encode()),
    "half in a revised prompt": entry(b64_json=IMAGE, revised_prompt=f"a fox {CANARY[5:25]}"),
    "details in depth": entry(b64_json=IMAGE, seen={"headers": [{"Authorization": f"Bearer {CANARY}"}]}),
    "the key of a detail": entry(b64_json=IMAGE, **{CANARY: 1, "deep": {CANARY: [CANARY]}}),
    "unknown keys": good(usage={CANARY: CANARY}, background=CANARY),
    "created is the key": json.dumps({"created": CANARY, "data": [{"b64_json": IMAGE}]}).encode(),
    "key twice": b'{"data": [{"b64_json": "", "b64_json": "", "x": "' + CANARY.encode() + b'"}]}',
    "a broken document": good()[:-1] + b', "key": "' + CANARY.encode() + b'", oops}',
    "a document cut in the key": good()[:-1] + b', "key": "' + CANARY[:40].encode(),
    "text before it": CANARY.encode() + good(),
    "text behind it": good() + CANARY.encode(),
    "a comment before it": b": " + CANARY.encode() + b"\n" + error(message=CANARY),
    "not UTF-8": b'{"key": "' + CANARY.encode() + b'\xff", "data": []}',
    "a number of thousands of digits": b'{"key": "' + CANARY.encode() + b'", "n": ' + b"1" * 5000 + b"}",
    "deeper than any": b'{"key": "' + CANARY.encode() + b'", "a": ' + b"[" * 100_000,
    "HTML": f"<html><body>{CANARY}".encode(),
    "an image without its end": entry(b64_json=base64.b64encode(png()[:-12]).decode(), revised_prompt=CANARY),
    "a bad character": entry(b64_json=f"{IMAGE[:20]}!{CANARY}", revised_prompt=CANARY),
    "too many images": json.dumps({"data": [{"b64_json": IMAGE, "revised_prompt": CANARY}] * 3}).encode(),
    "one image and a broken one": json.dumps(
        {"data": [{"b64_json": IMAGE, "revised_prompt": CANARY}, {"b64_json": CANARY}]}
    ).encode(),
}

NO_HTTP: dict[str, bytes] = {
    "no HTTP at all": f"SSH-2.0-{CANARY}\r\n\r\n".encode(),
    "the version": f"HTTP/{CANARY} 200 OK\r\n\r\n".encode(),
    "the status": f"HTTP/1.1 {CANARY} OK\r\n\r\n".encode(),
    "the reason": f"HTTP/1.1 401 {CANARY}\r\nContent-Length: 0\r\n\r\n".encode(),
    "the reason of a 204": f"HTTP/1.1 204 {CANARY}\r\n\r\n".encode(),
    "a line without a colon": f"HTTP/1.1 200 OK\r\n{CANARY}\r\n\r\n".encode(),
    "a header's bad name": f"HTTP/1.1 200 OK\r\nbad name {CANARY}: 1\r\n\r\n".encode(),
    "a header's bad value": f"HTTP/1.1 200 OK\r\nX-Bad: \0{CANARY}\r\n\r\n".encode(),
    "a line that is too long": f"HTTP/1.1 200 OK\r\nX-Long: {CANARY * 400}\r\n\r\n".encode(),
    "too many headers": b"HTTP/1.1 200 OK\r\n" + f"X-Many: {CANARY}\r\n".encode() * 40_000 + b"\r\n",
    "the length": f"HTTP/1.1 200 OK\r\nContent-Length: {CANARY}\r\n\r\n".encode(),
    "a second length": f"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: {CANARY}\r\n\r\nx".encode(),
    "the encoding": f"HTTP/1.1 200 OK\r\nContent-Encoding: {CANARY}\r\nContent-Length: 1\r\n\r\nx".encode(),
    "gzip": f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 51\r\n\r\n{CANARY}".encode(),
    "the transfer encoding": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: {CANARY}\r\n\r\n{CANARY}".encode(),
    "the size of a chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{CANARY}\r\n".encode(),
    "behind a chunk": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n {CANARY}\r\n".encode(),
    "a trailer": f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{{\r\n0\r\n{CANARY}\r\n\r\n".encode(),
    "a body cut off": reply(f'{{"key": "{CANARY}'.encode(), length=1000),
    "an error body cut off": reply(f'{{"error": "{CANARY}'.encode(), status=500, length=1000),
    "an interim answer": f"HTTP/1.1 103 Hints\r\nLink: {CANARY}\r\n\r\n".encode() + reply(b"{}"),
    "an upgrade": f"HTTP/1.1 101 {CANARY}\r\nUpgrade: {CANARY}\r\nConnection: upgrade\r\n\r\n".encode(),
}

ANSWERS: dict[str, bytes] = {
    **dict(refusals()),
    **{f"a 200, {place}": reply(body) for place, body in DOCUMENTS.items()},
    **{f"a 200, {place}, cut short": reply(body, length=len(body) + 9) for place, body in DOCUMENTS.items()},
    **{f"a 200 without images, {name}": reply(b'{"data": []}', headers=lines) for name, lines in HEADERS.items()},
    **{f"a 200 with an image, {name}": reply(good(), headers=lines) for name, lines in HEADERS.items()},
    **{f"a 202, {name}": reply(b"{}", status=202, headers=lines) for name, lines in HEADERS.items()},
    **{f"no HTTP, {place}": said for place, said in NO_HTTP.items()},
}
"""What a server says, by what is odd about it."""
