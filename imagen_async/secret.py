"""Text that must not be shown: the API key and the header made of it.

A `Secret` is a `str`, so that it goes wherever text goes, but its repr is masked: in a traceback with locals, in a
dict of headers, in a pytest failure there are only asterisks. `str()` and formatting do give the text; only
`transport` does that.
"""

from __future__ import annotations

__all__ = ["Secret"]


class Secret(str):
    """A `str` that does not show itself.

    Example:
        >>> {"Authorization": Secret("Bearer sk-123")}
        {'Authorization': '***'}
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "'***'"

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        # A pickle would hold the key in the clear.
        raise TypeError("a secret cannot be pickled")
