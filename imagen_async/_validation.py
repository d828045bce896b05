"""Checks of settings. The error names the setting, its value, and the values that are allowed."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any

import attrs

from imagen_async.exceptions import ConfigurationError, printable

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Choice", "Number", "check_kinds", "nearest", "shown"]


@attrs.frozen
class Number:
    """The numbers that a setting accepts; also a validator of a field of an attrs class.

    Attributes:
        least: The least number.
        beyond: Whether the number must be greater than `least`.
        whole: Whether it must be an int.
        optional: Whether None is accepted.
        endless: Whether infinity is accepted.

    Raises:
        ConfigurationError: By `check`, for a value that is not accepted. A bool is not a number, and neither is NaN.

    Example:
        >>> Number(1, whole=True).check("max_concurrency", 0)
        Traceback (most recent call last):
        imagen_async.exceptions.ConfigurationError: max_concurrency must be a whole number from 1, not 0
    """

    least: float = 0
    beyond: bool = attrs.field(default=False, kw_only=True)
    whole: bool = attrs.field(default=False, kw_only=True)
    optional: bool = attrs.field(default=False, kw_only=True)
    endless: bool = attrs.field(default=False, kw_only=True)

    def __call__(self, settings: object, field: attrs.Attribute[Any], value: object) -> None:
        """Check a field of `settings`."""
        self.check(f"{type(settings).__name__}.{field.name}", value)

    def check(self, name: str, value: object) -> None:
        """Check the setting `name`."""
        if (value is None and self.optional) or self._accepts(value):
            return
        allowed = "a whole number" if self.whole else "a number" if self.endless else "a finite number"
        bound = f"above {self.least:g}" if self.beyond else f"from {self.least:g}"
        end = ", or None" if self.optional else ""
        raise ConfigurationError(f"{name} must be {allowed} {bound}{end}, not {shown(value)}")

    def _accepts(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        if self.endless and value == math.inf:
            return True
        return self.least <= value <= sys.float_info.max and not (self.beyond and value == self.least)


@attrs.frozen
class Choice:
    """A validator of a field that accepts only some texts.

    Attributes:
        choices: The texts.

    Raises:
        ConfigurationError: On a call, for any other value.
    """

    choices: tuple[str, ...]

    def __call__(self, settings: object, field: attrs.Attribute[Any], value: object) -> None:
        """Check a field of `settings`."""
        if value not in self.choices:
            allowed = f"{', '.join(self.choices[:-1])} or {self.choices[-1]}"
            raise ConfigurationError(f"{type(settings).__name__}.{field.name} must be {allowed}, not {shown(value)}")


def check_kinds(**settings: tuple[object, type]) -> None:
    """Check that each setting is None or an object of its class.

    Raises:
        ConfigurationError: A setting is something else.

    Example:
        >>> check_kinds(retry=(3, Number))
        Traceback (most recent call last):
        imagen_async.exceptions.ConfigurationError: retry must be a Number, not 3
    """
    for name, (value, kind) in settings.items():
        if value is not None and not isinstance(value, kind):
            article = "an" if kind.__name__[0] in "AEIOU" else "a"
            raise ConfigurationError(f"{name} must be {article} {kind.__name__}, not {shown(value)}")


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a question that names the known name nearest to `name`, or nothing if none is near.

    Example:
        >>> nearest("aspect_ration", ["aspect_ratio", "n"])
        '; did you mean aspect_ratio?'
    """
    from difflib import get_close_matches  # noqa: PLC0415 - needed only for an error

    near = get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def shown(value: object) -> str:
    """Return a value as text for an error message: short, and safe to print."""
    try:
        return printable(repr(value), 80)
    except (RecursionError, ValueError):  # nested too deeply, or a number of thousands of digits
        return f"<{type(value).__name__} too large to show>"
