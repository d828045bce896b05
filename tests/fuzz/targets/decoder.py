"""The streaming decoder: every chunking gives the verdict of `json.loads` and base64 on the whole body."""

from __future__ import annotations

import attrs

from imagen_async.exceptions import ProtocolError
from imagen_async.wire.decoder import Decoder
from tests.fuzz.cutting import ways
from tests.wire.oracles import Verdict, stream, verdict_of_oracle

__all__ = ["LONGEST", "WORDS", "check"]

LONGEST = 4096
WORDS = (
    b'"b64_json"', b'"b64\\u005fjson"', b'"data"', b'"data":[', b'"url"', b'"url":"data:', b'"created"', b'"error"',
    b'{"data":[{"b64_json":"', b'"}]}', b"data:image/png;base64,", b"DATA:;base64,", b"\\/", b"\\u002b", b"\\u", b'\\"',
    b"null", b"==", b"=", b"QUJD", b"\xef\xbb\xbf", b": PROCESSING\n", b"\r\n", b"NaN", b"-0", b"1e999", b"\xff",
)  # fmt: skip

_BY_CAP = frozenset({"depth", "images", "size"})
_WIDE = {"max_payloads": 64}
_NARROW = {"max_payloads": 2, "max_payload": 16, "max_skeleton": 96, "max_depth": 4}


@attrs.frozen
class _Fault:
    check: str
    offset: int | None


def check(body: bytes) -> None:
    """Decode `body` however it is cut, with caps that it keeps and with caps that it may break."""
    told, exact = _one_verdict(body, _WIDE), verdict_of_oracle(body)
    # The text of a preview is passed over, and not looked at even for being text.
    passable = (exact, verdict_of_oracle(body.decode("utf-8", "replace").encode()))
    if not isinstance(told, _Fault):
        assert told in passable
    elif told.check not in _BY_CAP:
        assert exact is None, told
    # Of two caps that one stretch breaks, which is named depends on how the stretch comes.
    narrow = [_verdict(chunks, _NARROW) for chunks in ways(body)]
    assert all(isinstance(verdict, _Fault) for verdict in narrow) or all(verdict == told for verdict in narrow)


def _one_verdict(body: bytes, caps: dict[str, int]) -> Verdict | _Fault:
    verdicts = [_verdict(chunks, caps) for chunks in ways(body)]
    verdicts += [_verdict(chunks, caps, memory=bytearray(len(body))) for chunks in ways(body)]
    assert all(verdict == verdicts[0] for verdict in verdicts), verdicts
    return verdicts[0]


def _verdict(chunks: list[bytes], caps: dict[str, int], *, memory: bytearray | None = None) -> Verdict | _Fault:
    try:
        return stream(chunks, Decoder(**caps), memory=memory)
    except ProtocolError as error:
        assert error.check
        assert str(error).isprintable()
        assert error.offset is None or 0 <= error.offset <= sum(map(len, chunks))
        return _Fault(error.check, error.offset)
