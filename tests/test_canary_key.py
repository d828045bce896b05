"""A canary key goes through hundreds of failing situations and is seen in none of them."""

from __future__ import annotations

import errno
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiohttp.client_exceptions import UnixClientConnectorError
from aiohttp.client_reqrep import ConnectionKey, RequestInfo
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

from imagen_async import Event, ImagenClient, ImagenError, Outcome, RetryPolicy
from tests.canary import CANARY, PASSWORD, Sightings, of_error, of_value, watched
from tests.canary_answers import ANSWERS
from tests.client.test_classification import OF_AIOHTTP, response
from tests.servers import answer, serving

if TYPE_CHECKING:
    from tests.clock import FakeClock

ONCE = RetryPolicy(max_attempts=1, max_elapsed=1.0)


def parts(client: ImagenClient) -> list[tuple[str, object]]:
    """What a debugger would look at."""
    transport = client._transport
    return [
        ("client", client),
        ("transport", transport),
        ("session", transport._session),
        ("headers", transport._headers),
        ("mask", transport.mask),
        ("limiter", client.limiter),
        ("shared limiter", client.limiter.shared),
        ("pace", client.pace),
    ]


async def look_at_a_failure(client: ImagenClient, sightings: Sightings, events: list[Event]) -> None:
    """Ask for an image and for the models, and look at all that comes of it."""
    try:
        outcome = await client.generate("a fox")
    except ImagenError as error:
        sightings.look_at_all(of_error(error))
    else:
        sightings.look_at_all(of_value(outcome, "outcome"))
    try:
        sightings.look("models", repr(await client.list_models()))
    except ImagenError as error:
        sightings.look_at_all(of_error(error))
    async with client.stream(["a fox"]) as outcomes:
        try:
            sightings.look_at_all([told async for each in outcomes for told in of_outcome(each)])
        except ImagenError as error:
            sightings.look_at_all(of_error(error))
        sightings.look_at_all(of_value(outcomes, "stream"))
    sightings.look_at_all(told for event in events for told in of_value(event, type(event).__name__))


def of_outcome(outcome: Outcome) -> list[tuple[str, str]]:
    told = list(of_value(outcome, "outcome"))
    return told + (list(of_error(outcome.error)) if outcome.error is not None else [])


@pytest.mark.parametrize("name", ANSWERS)
async def test_an_answer_that_repeats_the_key_gets_it_nowhere(name: str, clock: FakeClock) -> None:
    sightings, events = Sightings(), list[Event]()
    # Debug mode costs more than all else; the refusals differ in what stands in them only.
    with watched(sightings, debug="no HTTP" in name or "no header" in name):
        async with (
            serving(answer(ANSWERS[name], close=True)) as server,
            ImagenClient(
                CANARY, server.base_url, retry=ONCE, callbacks=[events.append], _runtime=clock.runtime(lambda: 0.5)
            ) as client,
        ):
            await look_at_a_failure(client, sightings, events)
            for part, value in parts(client):
                sightings.look_at_all(of_value(value, part))
        assert server.asked[0].headers["Authorization"] == f"Bearer {CANARY}"
    assert sightings.looked_at > 30
    assert sightings.seen == []


# -- errors of the libraries below ------------------------------------------------------------------------------------

WORDS = f"Bearer {CANARY} through http://fox:{PASSWORD}@proxy.example"
SPOKEN = RequestInfo(
    URL(f"https://gateway.example/{CANARY}"),
    "POST",
    CIMultiDictProxy(CIMultiDict({"Authorization": f"Bearer {CANARY}", "Proxy-Authorization": PASSWORD})),
    URL(f"https://gateway.example/?{CANARY}"),
)
PLACE = ConnectionKey(
    "gateway.example",
    443,
    is_ssl=True,
    ssl=True,
    proxy=URL(f"http://fox:{PASSWORD}@proxy.example"),
    proxy_auth=None,
    proxy_headers_hash=None,
)


def made(kind: type[Any]) -> BaseException:
    """An error of aiohttp's that holds the key wherever it can."""
    if issubclass(kind, aiohttp.ClientResponseError):
        return kind(SPOKEN, (), message=WORDS, headers=CIMultiDict({"x": CANARY}))
    if issubclass(kind, UnixClientConnectorError):
        return kind(f"/{CANARY}", PLACE, OSError(2, WORDS))
    if issubclass(kind, aiohttp.ClientConnectorError):
        reason = ssl.CertificateError(WORDS) if "Certificate" in kind.__name__ else OSError(111, WORDS)
        return kind(PLACE, reason)
    if issubclass(kind, aiohttp.ServerFingerprintMismatch):
        return kind(b"a", b"b", f"{CANARY}.example", 443)
    return kind(errno.ECONNRESET, WORDS, CANARY) if issubclass(kind, OSError) else kind(WORDS)


BROKEN = [
    *(made(kind) for kind in OF_AIOHTTP if "WS" not in kind.__name__),
    *(OSError(number, WORDS, CANARY) for number in (errno.EPIPE, errno.ETIMEDOUT, errno.ENETUNREACH, errno.EMFILE)),
    ssl.SSLError(1, WORDS),
    TimeoutError(WORDS),
    ValueError(WORDS),
    UnicodeEncodeError("ascii", CANARY + "ö", 51, 52, WORDS),
]


@pytest.mark.parametrize("phase", ["before", "sent", "body"])
@pytest.mark.parametrize("error", BROKEN, ids=lambda error: type(error).__name__)
async def test_an_error_of_a_library_s_that_holds_the_key_gets_it_nowhere(
    phase: str, error: BaseException, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    async def request(*_: Any, trace_request_ctx: Any = None, **__: Any) -> Any:
        trace_request_ctx.sent = phase != "before"
        if phase == "body":
            return response(error)
        raise error

    monkeypatch.setattr(aiohttp.ClientSession, "_request", request)
    sightings = Sightings()
    proxy = f"http://fox:{PASSWORD}@127.0.0.1:1"
    async with ImagenClient(
        CANARY, "https://gateway.example", proxy=proxy, retry=ONCE, _runtime=clock.runtime()
    ) as client:
        with watched(sightings), pytest.raises(ImagenError) as caught:
            await client.generate("a fox")
    sightings.look_at_all(of_error(caught.value))
    assert sightings.seen == []
