"""The key goes over https, to this machine, or where the caller allows it, however a URL is spelled."""

from __future__ import annotations

from typing import Any

import pytest
from yarl import URL

from imagen_async import ConfigurationError
from imagen_async.transport.url import gateway_url

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
    # IDNA maps these to plain letters, and the plain letters are resolved.
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
def test_https_and_this_machine_are_accepted(url: str) -> None:
    assert gateway_url(url) == URL(url)


@pytest.mark.parametrize("url", HERE)
def test_the_host_that_counts_as_this_machine_is_the_host_that_is_resolved(url: str) -> None:
    host = gateway_url(url).raw_host
    assert host in {"localhost", "::1"} or (host or "").startswith("127.")


@pytest.mark.parametrize("url", ELSEWHERE)
def test_over_http_any_other_host_is_refused(url: str) -> None:
    with pytest.raises(ConfigurationError, match="the base URL"):
        gateway_url(url)


@pytest.mark.parametrize("url", [url for url in ELSEWHERE if " " not in url and "%" not in url])
def test_over_http_any_other_host_needs_allow_http(url: str) -> None:
    try:
        expected = URL(url).with_query(None).with_fragment(None)
    except ValueError:
        pytest.skip("this version of yarl does not parse the URL")
    assert gateway_url(url, allow_http=True) == expected


@pytest.mark.parametrize("allow_http", [False, True])
@pytest.mark.parametrize("url", NO_PLACE)
def test_a_text_that_is_not_an_http_url_is_refused_even_with_allow_http(url: Any, *, allow_http: bool) -> None:
    with pytest.raises(ConfigurationError, match="the base URL") as caught:
        gateway_url(url, allow_http=allow_http)
    assert "evil" not in str(caught.value)


def test_a_key_passed_as_the_url_is_not_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        gateway_url(KEY)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("where", ["/{}", "/v1/{}/x", "/v1?key={}", "/v1#{}", "/v1?a=%20{}"])
def test_a_url_that_contains_the_key_is_refused(where: str) -> None:
    with pytest.raises(ConfigurationError, match="must not contain the API key"):
        gateway_url("https://gateway.example" + where.format(KEY), key=KEY)


def test_a_key_that_is_a_common_word_may_occur_in_the_url() -> None:
    assert gateway_url("http://localhost/v1", key="v1") == URL("http://localhost/v1")


@pytest.mark.parametrize("end", ["/images/generations", "/images/generations/", "/images/generations?x=1#y"])
@pytest.mark.parametrize("base", ["http://localhost/v1", "http://localhost:8080/a%2Fb", "http://localhost"])
def test_the_endpoint_s_own_url_is_shortened_to_the_base_url(base: str, end: str) -> None:
    assert gateway_url(base + end) == URL(base)


@pytest.mark.parametrize("path", ["/images", "/generations", "/my/images/generations/v1", "/xyzimages/generations"])
def test_another_path_is_left_as_it_is(path: str) -> None:
    assert gateway_url("https://gateway.example" + path).path == path
