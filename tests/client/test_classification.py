"""Each failed attempt is exactly one of five things, whatever went wrong and when."""

from __future__ import annotations

import errno
import ssl
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import aiohttp
import pytest
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from hypothesis import given
from hypothesis import strategies as st
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from imagen_async import FailureClass, ImagenError, OverloadedError
from imagen_async.client.stop import stops_everything
from imagen_async.transport.timeouts import Timeouts
from imagen_async.transport.transport import Transport
from imagen_async.wire.errors import failure_class, gateway_error
from tests.profiles import times

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY = ConnectionKey("gateway.example", 443, is_ssl=True, ssl=True, proxy=None, proxy_auth=None, proxy_headers_hash=None)
INFO = RequestInfo(
    URL("https://gateway.example"), "POST", CIMultiDictProxy(CIMultiDict()), URL("https://gateway.example")
)

SYSTEM = [OSError(number, name) for number, name in errno.errorcode.items()]
MADE: dict[type[BaseException], Callable[[type[Any]], BaseException]] = {
    aiohttp.ClientResponseError: lambda kind: kind(INFO, ()),
    aiohttp.ClientConnectorCertificateError: lambda kind: kind(KEY, ssl.CertificateError("bad")),
    aiohttp.ClientConnectorDNSError: lambda kind: kind(KEY, OSError(-2, "no such name")),
    UnixClientConnectorError: lambda kind: kind("/socket", KEY, OSError(2, "no such file")),
    aiohttp.ClientConnectorError: lambda kind: kind(KEY, OSError(111, "refused")),
    aiohttp.ClientOSError: lambda kind: kind(errno.ECONNRESET, "reset"),
    aiohttp.ServerFingerprintMismatch: lambda kind: kind(b"a", b"b", "gateway.example", 443),
    aiohttp.InvalidURL: lambda kind: kind("http://"),
    aiohttp.ClientError: lambda kind: kind("broken"),
    aiohttp.WSMessageTypeError: lambda kind: kind("broken"),
}


def kinds(of: type[Any]) -> Iterator[type[Any]]:
    yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


def made(kind: type[Any]) -> BaseException:
    return next(make(kind) for base, make in MADE.items() if issubclass(kind, base))


OF_AIOHTTP = sorted(
    {kind for kind in kinds(aiohttp.ClientError) if kind.__module__.startswith("aiohttp.client")}, key=repr
)
"""Every error that this version of aiohttp has for its clients."""

BROKEN = [
    *(made(kind) for kind in OF_AIOHTTP if "WS" not in kind.__name__),
    *SYSTEM,
    ConnectionResetError(),
    BrokenPipeError(),
    ssl.SSLError("bad record"),
    TimeoutError(),
    ValueError("a header that HTTP cannot carry"),
    UnicodeEncodeError("ascii", "ö", 0, 1, "no"),
]


class Body:
    """A body that breaks."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def readany(self) -> bytes:
        raise self._error

    def exception(self) -> BaseException:
        return self._error

    def set_exception(self, _: None) -> None:
        """Do nothing: no bytes arrived before the error."""

    def read_nowait(self) -> bytes:
        return b""

    def at_eof(self) -> bool:
        return False

    def is_eof(self) -> bool:
        return False


def response(error: BaseException) -> Any:
    return SimpleNamespace(status=200, headers={}, content=Body(error), connection=None, close=Mock(), release=Mock())


async def failure(phase: str, error: BaseException, monkeypatch: pytest.MonkeyPatch) -> ImagenError:
    """The failure that a transport raises for an error `before` the request is `sent`, after that, or in the `body`."""

    async def request(*_: Any, trace_request_ctx: Any = None, **__: Any) -> Any:
        if phase == "before":
            raise error
        # As our own trace hook does when the first bytes leave.
        trace_request_ctx.leave()
        if phase == "sent":
            raise error
        return response(error)

    monkeypatch.setattr(aiohttp.ClientSession, "_request", request)
    transport = Transport(URL("https://gateway.example"), "sk-k", timeouts=Timeouts())
    await transport.open()
    try:
        with pytest.raises(ImagenError) as caught:
            async with transport.post("/x", b"{}", {}) as answering:
                await answering.read()
    finally:
        await transport.close()
    return caught.value


PROVEN = (
    aiohttp.ClientConnectorError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ServerFingerprintMismatch,
    aiohttp.ConnectionTimeoutError,
)
"""Errors that tell by themselves that no connection came about."""


@pytest.mark.parametrize("phase", ["before", "sent", "body"])
@pytest.mark.parametrize("error", BROKEN, ids=lambda error: f"{type(error).__name__}-{error!s:.20}")
async def test_every_error_in_every_phase_is_one_of_the_classes(
    phase: str, error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    means = failure_class(await failure(phase, error, monkeypatch))
    if phase != "before" and not isinstance(error, (*PROVEN, aiohttp.InvalidURL)):
        # What may have been billed must never be taken for free.
        assert means is FailureClass.AMBIGUOUS
    elif isinstance(error, ValueError) and not isinstance(error, PROVEN):
        assert means is FailureClass.FATAL
    elif isinstance(error, aiohttp.ClientPayloadError) or type(error) in {
        aiohttp.ClientResponseError,
        aiohttp.ContentTypeError,
        aiohttp.WSServerHandshakeError,
        aiohttp.TooManyRedirects,
    }:
        assert means is FailureClass.AMBIGUOUS
    else:
        assert means is FailureClass.NEVER_SENT


HEADERS = st.dictionaries(
    st.sampled_from(["Retry-After", "retry-after-ms", "x-should-retry", "x-request-id", "Date"]),
    st.text(max_size=20) | st.sampled_from(["1", "nan", "-1", "1e309", "true", "Fri, 31 Dec 9999 23:59:59 GMT"]),
)
CODES = st.sampled_from(["", "model_not_found", "insufficient_quota", "insufficient_user_quota", "x", "429"])
BODIES = st.binary(max_size=60) | CODES.map(lambda code: b'{"error":{"code":"%s"}}' % code.encode())


def expected(status: int, headers: dict[str, str], body: bytes) -> FailureClass:
    """The table of the gateway's contract, written down once more."""
    if status < 300:
        return FailureClass.AMBIGUOUS
    if b"model_not_found" in body or b"_quota" in body or status < 400 or status in {401, 402, 403}:
        return FailureClass.FATAL
    if status == 429:
        return FailureClass.REFUSED
    error = gateway_error(status, headers, body, now=0)
    if status == 503 and isinstance(error, OverloadedError) and error.retry_after is not None:
        return FailureClass.REFUSED
    return FailureClass.AMBIGUOUS if status == 408 or status >= 500 else FailureClass.REJECTED


@given(st.integers(100, 999).filter(lambda status: status != 200), HEADERS, BODIES)
@times(3)
def test_every_status_with_any_headers_and_body_is_the_class_that_the_contract_says(
    status: int, headers: dict[str, str], body: bytes
) -> None:
    error = gateway_error(status, headers, body, now=0)
    assert failure_class(error) is expected(status, headers, body)
    assert stops_everything(error) is (expected(status, headers, body) is FailureClass.FATAL)


def test_no_error_of_ours_is_left_without_a_class_but_those_that_are_no_attempt_s() -> None:
    module = sys.modules["imagen_async.exceptions"]
    ours = {kind for kind in vars(module).values() if isinstance(kind, type) and issubclass(kind, ImagenError)}
    without = set()
    for kind in ours:
        error = kind.__new__(kind)
        vars(error).update(sent=True, status=500, retry_after=None)
        without |= {kind.__name__} if failure_class(error) is None else set()
    caps, stores = {"LimitReachedError", "OutageError"}, {"StoreError", "JournalError", "JournalLockedError"}
    assert without == {"ImagenError"} | caps | stores
