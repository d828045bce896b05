"""Text that must not be shown: the API key, and headers and URLs that contain a secret.

A `Secret` is a `str`, so that it can be passed wherever text is expected, but its repr is masked: a traceback with
locals, a dict of headers or a pytest failure shows only asterisks. `str()` and formatting return the text; only
`transport` uses them.

A `Mask` removes secrets from foreign text, because gateways and proxies repeat what they refuse.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeVar
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Mask", "Secret"]

T = TypeVar("T")

_SHORTEST = 8
"""Characters; the key of a local gateway may be a common word, which would be masked in every sentence."""
_LONG = 32
"""Characters from which on a secret is neither a word nor a phrase, so that parts of it are masked, too."""
_PART = 8
_STEP = _PART // 2
_DEEPEST = 100
"""Levels of nesting; deeper values are replaced by None."""


class Secret(str):
    """A `str` whose repr is masked.

    Example:
        >>> {"Authorization": Secret("Bearer sk-123")}
        {'Authorization': '***'}
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __getitem__(self, key: SupportsIndex | slice) -> Secret:
        # Tools that shorten long values show a slice of them.
        return Secret(super().__getitem__(key))

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        # A pickle would hold the key in the clear.
        raise TypeError("a secret cannot be pickled")


class Mask:
    """Removes secrets from foreign text: whole, in part, encoded as base64, or quoted in a URL.

    Args:
        *secrets: The secrets; those of fewer than eight characters are not masked.

    Example:
        >>> mask = Mask("sk-0123456789abcdefghijklmnopqrstuvwxyz")
        >>> mask("no such key: sk-0123456789abcdefg…")
        'no such key: ***…'
    """

    def __init__(self, *secrets: str) -> None:
        forms = {form for secret in secrets if len(secret) >= _SHORTEST for form in _forms(secret)}
        self._parts = frozenset(Secret(part) for form in forms for part in _parts(form))
        # A text that contains a part contains one of these marks, so most texts need only a few searches.
        self._marks = frozenset(
            Secret(form[at : at + _STEP]) for form in forms for at in range(0, len(form) - _STEP + 1, _STEP)
        )

    def __call__(self, text: str) -> str:
        """Return `text` with asterisks in place of secrets."""
        if not any(mark in text for mark in self._marks):
            return text
        hidden = bytearray(len(text))
        for part in self._parts:
            at = text.find(part)
            while at >= 0:
                hidden[at : at + len(part)] = b"\1" * len(part)
                at = text.find(part, at + 1)
        return "".join(_shown(text, hidden))

    def inside(self, value: T, *, depth: int = 0) -> T:
        """Return a JSON value with all its texts masked, keys included."""
        masked: Any = value
        if isinstance(value, str):
            masked = self(value)
        elif depth > _DEEPEST:
            masked = None
        elif isinstance(value, dict):
            masked = {self(str(key)): self.inside(item, depth=depth + 1) for key, item in value.items()}
        elif isinstance(value, list | tuple):
            masked = type(value)(self.inside(item, depth=depth + 1) for item in value)
        return masked  # type: ignore[no-any-return] # it has the type of `value`


def _shown(text: str, hidden: bytearray) -> Iterator[str]:
    end = 0
    while (begin := hidden.find(1, end)) >= 0:
        yield text[end:begin]
        yield "***"
        end = hidden.find(0, begin)
        if end < 0:
            return
    yield text[end:]


def _forms(secret: str) -> set[str]:
    """Return a secret as it may occur in JSON, in a URL, or in base64 of a text that contains it."""
    plain = secret.encode("utf-8", "surrogatepass")
    forms = {secret, quote(plain, safe="")}
    for before in range(3):
        # Only the characters that depend on nothing but the secret.
        encoded = base64.b64encode(bytes(before) + plain).decode()[-(-8 * before // 6) : (before + len(plain)) * 8 // 6]
        forms |= {encoded, encoded.replace("+", "-").replace("/", "_")}
    return forms


def _parts(form: str) -> Iterator[str]:
    if len(form) < _LONG:
        yield form
        return
    for at in range(len(form) - _PART + 1):
        yield form[at : at + _PART]
