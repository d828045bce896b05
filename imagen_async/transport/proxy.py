"""Proxies: from a URL or from the environment, with credentials kept out of the URL, which is shown in many places."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.request import getproxies, proxy_bypass

import attrs
from yarl import URL

from imagen_async._secrets import Secret
from imagen_async.exceptions import ConfigurationError
from imagen_async.transport.url import NOT_HTTPS, names_this_machine, read_url

__all__ = ["Proxy", "environment_proxy", "read_proxy"]


@attrs.frozen
class Proxy:
    """A proxy, with the credentials apart from its URL.

    Attributes:
        url: The URL without credentials.
        headers: Headers that only the proxy receives.
        secrets: Texts to mask in messages.
    """

    url: URL
    headers: Mapping[str, Secret] = attrs.field(factory=dict)
    secrets: tuple[Secret, ...] = ()


def read_proxy(text: str, gateway: URL, *, allow_http: bool = False, what: str = "the proxy's URL") -> Proxy:
    """Return the proxy that a URL names, checked; the URL may contain a user name and password.

    Args:
        text: The URL.
        gateway: The base URL of the gateway behind the proxy.
        allow_http: Whether a proxy on another machine may read the key.
        what: What the text is, for the message of an error.

    Raises:
        ConfigurationError: The text is not an absolute http(s) URL, or a proxy on another machine could read the key.

    Example:
        >>> read_proxy("http://fox:whiskers@proxy.example:3128", URL("https://gateway.example"))
        Proxy(url=URL('http://proxy.example:3128'), headers={'Proxy-Authorization': '***'}, secrets=('***', '***'))
    """
    text = Secret(text)
    found = _proxy(text, what)
    if isinstance(found, str):
        raise ConfigurationError(found)
    if gateway.scheme == "http" and not allow_http and not names_this_machine(found.url):
        raise ConfigurationError(f"{what} names another machine: through a proxy on another machine {NOT_HTTPS}")
    return found


def environment_proxy(gateway: URL, *, allow_http: bool = False) -> Proxy | None:
    """Return the proxy that the environment names for a gateway, or None.

    `urllib.request.getproxies` is asked: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``ALL_PROXY``, ``NO_PROXY`` in upper or lower
    case; on macOS and Windows the settings of the system too.

    Raises:
        ConfigurationError: As `read_proxy`.
    """
    proxies = {name: Secret(text) for name, text in getproxies().items()}
    name = gateway.scheme if proxies.get(gateway.scheme) else "all"
    text = proxies.get(name, Secret())
    if not text or proxy_bypass(f"{gateway.host_subcomponent}:{gateway.port}"):
        return None
    if "://" not in text:  # as curl reads it
        text = Secret(f"http://{text}")
    return read_proxy(
        text, gateway, allow_http=allow_http, what=f"the proxy's URL in the environment variable {name}_proxy"
    )


def _proxy(text: str, what: str) -> Proxy | str:
    url = read_url(text, what)
    if isinstance(url, str):
        return url
    if url.user is None:
        return Proxy(url)
    password = Secret(url.password or "")
    token = Secret(base64.b64encode(f"{url.user}:{password}".encode()).decode())
    return Proxy(url.with_user(None), {"Proxy-Authorization": Secret(f"Basic {token}")}, (password, token))
