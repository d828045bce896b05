"""Checks where the API key may be sent: over https, to this machine over http, elsewhere over http only if allowed.

A URL is judged by its text, and nothing is resolved. A host that is not a plain spelling of this machine counts as
another machine, so ``127.1`` and ``localhost.`` need ``allow_http`` too.
"""

from __future__ import annotations

import ipaddress

from yarl import URL

from imagen_async._secrets import Mask, Secret
from imagen_async.exceptions import ConfigurationError
from imagen_async.wire.families.imagen import GENERATIONS

__all__ = ["NOT_HTTPS", "gateway_url", "names_this_machine", "read_url"]

NOT_HTTPS = "the base URL must be https: over http the key can be read in transit (allow_http=True permits it)"


def gateway_url(text: str, *, key: str = "", allow_http: bool = False) -> URL:
    """Return the base URL of a gateway, checked.

    The URL of the endpoint itself (``…/v1/images/generations``) is accepted and shortened to the base URL. Query and
    fragment are dropped.

    Args:
        text: The URL.
        key: The API key, which the URL must not contain: URLs are shown in logs and errors.
        allow_http: Whether the key may be sent over http to another machine.

    Raises:
        ConfigurationError: The text is not an absolute http(s) URL, contains a user name, a password or the key, or
            would send the key over the network unencrypted.

    Example:
        >>> gateway_url("https://gateway.example/v1/images/generations")
        URL('https://gateway.example/v1')
        >>> gateway_url("http://gateway.example/v1")
        Traceback (most recent call last):
        imagen_async.exceptions.ConfigurationError: the base URL must be https: over http the key can be ...
    """
    # Key and URL are easily swapped: not even a traceback with locals may show the text.
    text, key = Secret(text), Secret(key)
    found = read_url(text, "the base URL")
    if isinstance(found, URL):
        found = _refusal(found, key, allow_http=allow_http) or _base(found)
    if isinstance(found, str):
        raise ConfigurationError(found)
    return found


def read_url(text: str, what: str) -> URL | str:
    """Return an absolute http(s) URL, or what is wrong with it, in words that do not show the text."""
    try:
        url = URL(str(text))
        named = bool(url.host)  # raises for a name that IDNA cannot encode
    except (ValueError, TypeError):
        return f"{what} is not a URL"
    if url.scheme not in {"http", "https"} or not named:
        return f"{what} must begin with https:// and name a host"
    return url


def names_this_machine(url: URL) -> bool:
    """Return whether the host, as it is given to the resolver, is a plain spelling of this machine."""
    host = url.raw_host or ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost"
    # Python versions disagree on whether ::ffff:127.0.0.1 is a loopback address.
    return address.is_loopback and getattr(address, "ipv4_mapped", None) is None and "%" not in host


def _base(url: URL) -> URL:
    path = url.raw_path.rstrip("/")
    if not path.endswith(GENERATIONS):
        return url.with_query(None).with_fragment(None)
    return url.with_path(path.removesuffix(GENERATIONS), encoded=True)


def _refusal(url: URL, key: str, *, allow_http: bool) -> str | None:
    if url.user or url.password:
        return "the base URL must not contain a user name or password"
    rest = f"{url.path_qs}#{url.fragment}"
    if Mask(key)(rest) != rest:
        return "the base URL must not contain the API key: URLs are shown in logs and errors"
    if url.scheme == "http" and not (allow_http or names_this_machine(url)):
        return NOT_HTTPS
    return None
