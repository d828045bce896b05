"""The key goes over https, or to this very machine, or where the caller says so; however a URL is spelled."""

from __future__ import annotations

from typing import Any

import pytest
from yarl import URL

from imagen_async import ConfigurationError, ImagenClient
from imagen_async.transport.url import gateway_url, read_proxy
from tests.servers import answer, reply, serving

KEY = "sk-" + "a9" * 24

HERE = [
    "http://localhost:8080/v1",
    "http://LOCALHOST/v1",
    "HTTP://LocalHost",
    "http://127.0.0.1:1/v1",
    "http://127.0.0.2/v1",
    "http://127.255.255.254/v1",
    "http://[::1]:1/v1",
    "http://[0:0:0:0:0:0:0:1]/v1",
    # IDNA makes the plain letters of these, and those are what is looked up.
    "http://\uff4cocalhost/v1",
    "http://\uff11\uff12\uff17.0.0.1/v1",
    "http://127\u30020\u30020\u30021/v1",
]
ELSEWHERE = [
    "http://gateway.example/v1",
    "http://10.0.0.7/v1",
    "http://192.168.1.1/v1",
    "http://169.254.169.254/v1",
    "http://localhost.example.com/v1",
    "http://127.0.0.1.example.com/v1",
    "http://localhost.evil.example/v1",
    "http://mylocalhost/v1",
    "http://local host/v1",
    "http://localhost./v1",
    "http://localhost../v1",
    "http://127.0.0.1./v1",
    "http://localhost.localdomain/v1",
    "http://ip6-localhost/v1",
    "http://0.0.0.0/v1",
    "http://0/v1",
    "http://[::]/v1",
    "http://[::ffff:127.0.0.1]/v1",
    "http://[::ffff:7f00:1]/v1",
    "http://[::127.0.0.1]/v1",
    "http://[::1%25eth0]/v1",
    "http://[fe80::1]/v1",
    "http://127.1/v1",
    "http://127.0.1/v1",
    "http://2130706433/v1",
    "http://0x7f000001/v1",
    "http://0x7f.0.0.1/v1",
    "http://0177.0.0.1/v1",
    "http://127.000.000.001/v1",
    "http://128.0.0.1/v1",
    "http://126.255.255.255/v1",
    "http://loc%61lhost/v1",
    "http://localhost%00.evil.example/v1",
    "http://localhost%2eevil.example/v1",
    "http://localhost\t.evil.example/v1",
    "http://evil.example#@localhost/v1",
    "http://evil.example?@localhost/v1",
    "http://evil.example/@localhost",
    "http://l\u043ecalhost/v1",  # a Cyrillic letter
    "http://l\u03bfcalhost/v1",  # a Greek letter
    "http://\u217c\u03bfca\u217chost.example/v1",
    "http://lo\u00adcalhost.example/v1",  # a soft hyphen
]
NO_PLACE = [
    "http://user@localhost/v1",
    "http://localhost@evil.example/v1",
    "http://127.0.0.1:80@evil.example/v1",
    "http://localhost:1@evil.example:2/v1",
    "http://:word@localhost/v1",
    "http://localhost\\@evil.example/v1",
    "http:\\\\localhost/v1",
    "http:localhost/v1",
    "http:/localhost/v1",
    "http:///v1",
    "http://",
    "//localhost/v1",
    "localhost:8080/v1",
    "ws://localhost/v1",
    "ftp://localhost/v1",
    "file:///etc/passwd",
    "unix:///run/gateway.sock",
    "javascript:alert(1)",
    "http://xn--localhost-/v1",
    "http://[::1/v1",
    "http://localhost:99999/v1",
    "http://localhost:x/v1",
    "gateway.example/v1",
    "",
    None,
]


@pytest.mark.parametrize("url", [*HERE, "https://gateway.theturbo.ai/v1", "https://10.0.0.7"])
def test_https_and_this_machine_are_good_places(url: str) -> None:
    assert gateway_url(url) == URL(url)


@pytest.mark.parametrize("url", HERE)
def test_what_passes_for_this_machine_is_what_will_be_looked_up(url: str) -> None:
    host = gateway_url(url).raw_host
    assert host in {"localhost", "::1"} or (host or "").startswith("127.")


@pytest.mark.parametrize("url", ELSEWHERE)
def test_over_http_any_other_place_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the base URL"):
        gateway_url(url)


@pytest.mark.parametrize("url", [url for url in ELSEWHERE if " " not in url and "%" not in url])
def test_over_http_any_other_place_needs_a_word(url: str) -> None:
    try:
        expected = URL(url).with_query(None).with_fragment(None)
    except ValueError:
        pytest.skip("no URL to this version of yarl")
    assert gateway_url(url, allow_http=True) == expected


@pytest.mark.parametrize("allow_http", [False, True])
@pytest.mark.parametrize("url", NO_PLACE)
def test_what_is_no_plain_http_url_is_refused_whatever_is_allowed(url: Any, *, allow_http: bool) -> None:
    with pytest.raises(ConfigurationError, match="the base URL") as caught:
        gateway_url(url, allow_http=allow_http)
    assert "evil" not in str(caught.value)


def test_a_key_given_in_the_url_s_place_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        gateway_url(KEY)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("where", ["/{}", "/v1/{}/x", "/v1?key={}", "/v1#{}", "/v1?a=%20{}"])
def test_a_url_that_holds_the_key_is_refused(where: str) -> None:
    with pytest.raises(ConfigurationError, match="must not hold the key"):
        gateway_url("https://gateway.example" + where.format(KEY), key=KEY)


def test_a_key_that_is_a_common_word_may_stand_in_the_url() -> None:
    assert gateway_url("http://localhost/v1", key="v1") == URL("http://localhost/v1")


# -- proxies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("proxy", ["http://proxy.example:3128", "https://proxy.example", "http://user:word@10.0.0.7:1"])
def test_https_may_go_through_any_proxy(proxy: str) -> None:
    assert read_proxy(proxy, URL("https://gateway.example")).url == URL(proxy).with_user(None)


@pytest.mark.parametrize("gateway", ["http://localhost/v1", "http://127.0.0.1/v1", "http://gateway.example/v1"])
def test_over_http_a_proxy_on_another_machine_could_read_the_key_and_needs_a_word(gateway: str) -> None:
    with pytest.raises(ConfigurationError, match="through a proxy on another machine"):
        read_proxy("http://proxy.example:3128", URL(gateway))
    assert read_proxy("http://proxy.example:3128", URL(gateway), allow_http=True).url.host == "proxy.example"
    assert read_proxy("http://127.0.0.1:3128", URL(gateway)).url.port == 3128


@pytest.mark.parametrize("proxy", ["proxy.example:3128", "socks5://proxy.example", "http://", "", "http://[::1"])
def test_what_is_no_proxy_s_url_is_refused(proxy: str) -> None:
    with pytest.raises(ConfigurationError, match="the proxy's URL"):
        read_proxy(proxy, URL("https://gateway.example"))


async def test_a_client_refuses_a_proxy_that_could_read_its_key_and_sends_nothing() -> None:
    async with serving(answer(reply(b"{}"))) as server:
        with pytest.raises(ConfigurationError, match="through a proxy"):
            ImagenClient(KEY, server.base_url, proxy="http://proxy.example:3128")
        assert server.connections == 0
