"""Where the key may go: to a gateway over https, to this very machine, or where the caller says so in a word.

Pure: a URL is judged by what it spells, nothing is looked up. What is no plain spelling of this machine is taken for
another one, so ``127.1`` and ``localhost.`` need the word as well.
"""

from __future__ import annotations

import base64
import ipaddress
from collections.abc import Mapping

import attrs
from yarl import URL

from imagen_async._secrets import Mask, Secret
from imagen_async.exceptions import ConfigurationError

__all__ = ["Proxy", "gateway_url", "read_proxy"]

_NOT_HTTPS = "the base URL must be https: over http the key could be read on the way (allow_http=True to do it anyway)"


def gateway_url(text: str, *, key: str = "", allow_http: bool = False) -> URL:
    """Check a base URL.

    Args:
        text: The URL.
        key: What its path may not hold: URLs are shown.
        allow_http: Whether the key may travel in the clear.

    Raises:
        ConfigurationError: It is no absolute http(s) URL, holds a user name, a password or the key, or would send the
            key in the clear over a network.

    Example:
        >>> gateway_url("http://gateway.example/v1")
        Traceback (most recent call last):
        imagen_async.exceptions.ConfigurationError: the base URL must be https: over http the key could be read ...
    """
    # Key and URL, given in the wrong order, are a common slip: not even a traceback with locals shows the text.
    text, key = Secret(text), Secret(key)
    found = _read(text, "the base URL")
    if isinstance(found, URL):
        found = _refused(found, key, allow_http=allow_http) or found.with_query(None).with_fragment(None)
    if isinstance(found, str):
        raise ConfigurationError(found)
    return found


@attrs.frozen
class Proxy:
    """A proxy, with what lets one use it kept apart from its URL, which is shown in many places.

    Attributes:
        url: Where it is.
        headers: What it is told of the user.
        secrets: What nobody else is told.
    """

    url: URL
    headers: Mapping[str, Secret] = attrs.field(factory=dict)
    secrets: tuple[Secret, ...] = ()


def read_proxy(text: str, gateway: URL, *, allow_http: bool = False) -> Proxy:
    """Check a proxy's URL; it may hold a user name and password.

    Args:
        text: The URL.
        gateway: What is asked through it.
        allow_http: Whether the key may travel in the clear.

    Raises:
        ConfigurationError: It is no absolute http(s) URL, or the proxy, on another machine, could read the key.

    Example:
        >>> read_proxy("http://fox:whiskers@proxy.example:3128", URL("https://gateway.example"))
        Proxy(url=URL('http://proxy.example:3128'), headers={'Proxy-Authorization': '***'}, secrets=('***', '***'))
    """
    text = Secret(text)
    found = _proxy(text)
    if isinstance(found, str):
        raise ConfigurationError(found)
    if gateway.scheme == "http" and not allow_http and not _is_here(found.url):
        raise ConfigurationError(f"through a proxy on another machine {_NOT_HTTPS}")
    return found


def _proxy(text: str) -> Proxy | str:
    url = _read(text, "the proxy's URL")
    if isinstance(url, str):
        return url
    if url.user is None:
        return Proxy(url)
    password = Secret(url.password or "")
    token = Secret(base64.b64encode(f"{url.user}:{password}".encode()).decode())
    return Proxy(url.with_user(None), {"Proxy-Authorization": Secret(f"Basic {token}")}, (password, token))


def _read(text: str, what: str) -> URL | str:
    """Read an absolute http(s) URL, or say what is wrong with it; its text is not shown."""
    try:
        url = URL(str(text))
        named = bool(url.host)  # which fails where the name stands in letters that IDNA does not have
    except (ValueError, TypeError):
        return f"{what} is not a URL"
    if url.scheme not in {"http", "https"} or not named:
        return f"{what} must begin with https:// and name a host"
    return url


def _refused(url: URL, key: str, *, allow_http: bool) -> str | None:
    if url.user or url.password:
        return "the base URL must not hold a user name or password"
    rest = f"{url.path_qs}#{url.fragment}"
    if Mask(key)(rest) != rest:
        return "the base URL must not hold the key: it is shown in many places"
    if url.scheme == "http" and not (allow_http or _is_here(url)):
        return (
            "the base URL must be https: over http the key could be read on the way (allow_http=True to do it anyway)"
        )
    return None


def _is_here(url: URL) -> bool:
    """Say whether a URL names this machine, in the letters that go to the resolver."""
    host = url.raw_host or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    # Python changed its mind on whether ::ffff:127.0.0.1 is a loopback address.
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None and "%" not in host
