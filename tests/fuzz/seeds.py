"""Writes the seed corpus: ``python -m tests.fuzz.seeds`` writes a small file for each case, and keeps other files.

Bodies are drawn from the strategies that the properties use; the rest is written by hand here. A fuzzer learns from
each file what a meaningful input looks like, so that it need not come upon JSON or a PNG by itself.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
from typing import TYPE_CHECKING

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.corpus import CORPUS
from tests.pictures import SAMPLES, chunk, encoded, ihdr, png
from tests.strategies import said, spelled_bodies

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["main"]

_MOST = 24
_TINY = [
    png(),
    encoded("JPEG", 8, 8, quality=5),
    encoded("WEBP", 8, 8, quality=5),
    encoded("WEBP", 4, 4, lossless=True),
]
_GOOD = base64.b64encode(png()).decode()


def _drawn(strategy: st.SearchStrategy[bytes]) -> list[bytes]:
    """Draw some values, the same each time, short ones only."""
    found: list[bytes] = []

    @settings(
        max_examples=4 * _MOST, derandomize=True, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(strategy)
    def gather(value: bytes) -> None:
        if len(value) < 1500 and value not in found:
            found.append(value)

    gather()
    return found[:_MOST]


def _answer(status: str, body: object, *headers: str) -> bytes:
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    return "\n".join([status, *headers, "", text]).encode()


_BODIES = [
    b"", b"null", b"[]", b'{"data":[]}', b'{"data":null}', b'{"data":[{}]}', b'{"data":[{"b64_json":null,"url":null}]}',
    b"<html><body>502 Bad Gateway</body></html>", b'{"error":{"message":"no","code":500}}',
    b'{"data":[{"b64_json":"QUJD","b64_json":"REVG"}]}', b'{"data":[{"url":"https://example.org/a.png"}]}',
    b'{"data":[{"b64_json":"QR=="}]}', b'{"data":[{"b64_json":"QUJD\\', b": PROCESSING\n\n" + b'{"data":[]}',
    b'\xef\xbb\xbf{"data":[{"b64_json":"data:image/png;base64,QUJD"}],"created":1}',
    b'{"data":[{"b64\\u005fjson":"Q\\u0055JD","url":"data:,"}],"x":{"b64_json":"!?"}}', b"[" * 80,
]  # fmt: skip
_IMAGES = [
    *_TINY,
    SAMPLES["jpeg"][1],
    png(ihdr(), chunk(b"tEXt", b"prompt\0fox"), chunk(b"IDAT", b""), chunk(b"IDAT", b"x"), chunk(b"IEND")),
    png(ihdr(2**13, 2**13 + 1), chunk(b"IDAT", b"x"), chunk(b"IEND")),
    png(ihdr(), chunk(b"IEND")), png()[:-12], png() + b"\n", b"GIF89a\x01\x00\x01", b"", b"\xff\xd8\xff\xff\xff\xd9",
    b"RIFF\x04\x00\x00\x00WEBP",
]  # fmt: skip
_ERRORS = [
    _answer("401", {"error": {"message": "no such key", "type": "t", "param": None, "code": "invalid_api_key"}}),
    _answer("500", {"error": "text"}), _answer("500", {"msg": "看起来很糟"}), _answer("500", ""),
    _answer("422", {"detail": [{"loc": ["body", "n"], "msg": "too big"}, "x", None, {"loc": None}]}),
    _answer("429", {"error": {"code": 429, "message": "m", "status": "RESOURCE_EXHAUSTED",
                              "details": [{"retryDelay": "11.8s"}]}}, "Retry-After: 3", "x-should-retry: true"),
    _answer("400", {"error": {"message": json.dumps({"error": {"message": "inner", "code": 7}})}}),
    _answer("400", {"error": {"message": "blocked. Support codes: 39322892, 29310472 (request id: 2026x)"}}),
    _answer("503", {"error": {"code": "model_not_found"}}, "X-Oneapi-Request-Id: abc"),
    _answer("502", "<html><head><title>502 Bad Gateway</title></head></html>", "x-request-id: \x1b[1m"),
    _answer("302", "", "Location: https://example.org/"), _answer("202", "{}"),
    _answer("500", {"data": [{"id": "m", "raiFilteredReason": "r"}], "raiMediaFilteredReasons": ["a", 1]}),
    # What the classifier once fell over.
    _answer("422", {"detail": [{"loc": 5}]}), _answer("422", {"detail": list(range(400))}), _answer("502", "<" * 400),
]  # fmt: skip
_WAITS = [
    b"Retry-After: 1.5", b"Retry-After: 120", b"retry-after-ms: 250\nRetry-After: 7", b"Retry-After: nan",
    b"Retry-After: Fri, 31 Dec 2027 23:59:59 GMT\nDate: Fri, 31 Dec 2027 23:59:00 GMT", b"x-should-retry: TRUE",
    b"Retry-After: Friday, 31-Dec-99 23:59:59 GMT", b"Retry-After: Fri Dec 31 23:59:59 1999", b"Retry-After: 1e309",
    b"Retry-After: Fri, 15 Jan 2027 08:00:05 GMT", b"Retry-After: Fri, 31 Dec 9999 23:59:59 -2359", b"a: 11.8s",
]  # fmt: skip
_LINES = [
    b"A red fox\nAn owl", b"\xef\xbb\xbfA red fox\r\n\r\n# no comment\r\n", b'"one"\n"\xff"\n"thr\x00ee"\n"four"\n',
    b'{"prompt": "A red fox", "n": 2, "mood": "calm"}\n\n{"PROMPT": "x", "id": 7, "extra": {"seed": 1}}\n',
    b'{"prompt":"x","style":"watercolor","model":"imagegeneration@002","aspect_ratio":"16:9","output_format":"jpeg"}',
    b'{"prompt":"x","prompt":"y"}\n{"n":NaN}\n[1]\n"text"\nnull\n{"prompt":"\\ud800"}\n', b"\n \t\n",
    b'{"prompt":"x","n":[[[[[[1]]]]]]}', b'{"prompt": "' + b"x" * 80 + b'"}\n{"prompt": "two"}\n', b"\xff\xfeA\x00",
]  # fmt: skip
_TABLES = [
    b"prompt,n\nA red fox,2\n", b'id,Prompt,note\n1,"a ""red"" fox, calm","x\ny"\n,,\n3,owl\n4,a,b,c\n',
    b'Prompt\tCategory\n"a ""red"" fox"\tAnimals\n"open\tx\n', b'"prompt"\t"n"\n"a\tb"\t"2"\n',
    b'prompt,extra,style,model\nx,"{""seed"":1}",watercolor,imagegeneration@002\n', b"A red fox\nAn owl\n",
    b'prompt\none\n"two\nthree\n', b"prompt\r\none\rtwo\r\n\xff\n", b"prompt,prompt\n", b"prompt,,\nx,y,z\n", b"",
]  # fmt: skip


def _parquets() -> Iterator[bytes]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [
        {"prompt": ["A red fox", None], "n": [2.0, float("nan")], "id": [1, 2]},
        {"Prompt": pa.array(["x"] * 9).dictionary_encode(), "tags": [["a", "b"]] * 9, "at": [0] * 9},
        {
            "prompt": ["x"],
            "extra": [{"seed": 1}],
            "image": [b"\x89PNG"],
            "when": pa.array([2**62], pa.timestamp("ns")),
        },
        {"caption": ["no prompt"]},
    ]
    for number, table in enumerate(tables):
        file = io.BytesIO()
        pq.write_table(pa.table(table), file, compression="none" if number % 2 else "snappy", store_schema=number == 1)
        yield file.getvalue()


def _seeds() -> dict[str, list[bytes]]:
    answers = _drawn(said(st.sampled_from(_TINY)).map(lambda answer: answer.body))
    return {
        "decoder": [*_BODIES, *_drawn(spelled_bodies())],
        "receiver": [*_BODIES, *answers, f'{{"data":[{{"b64_json":"{_GOOD}"}},{{"b64_json":"!"}}]}}'.encode()],
        "skeleton": [*_BODIES, b'{"created": 17, "data": [{"b64_json": "[\\"", "seed": 12', b'{"a":1.', b'{"a":tru'],
        "image": _IMAGES,
        "errors": _ERRORS,
        "retry_after": _WAITS,
        "lines": _LINES,
        "tables": _TABLES,
        "sources": [*_LINES, gzip.compress(_LINES[3], mtime=0), gzip.compress(_LINES[0], mtime=0)[:-3]],
        "parquet": list(_parquets()),
    }


def main() -> None:
    """Write the seeds; each is called after its content."""
    for target, values in _seeds().items():
        folder = CORPUS / target
        folder.mkdir(parents=True, exist_ok=True)
        for value in values:
            (folder / f"seed-{hashlib.sha256(value).hexdigest()[:10]}").write_bytes(value)


if __name__ == "__main__":
    main()
