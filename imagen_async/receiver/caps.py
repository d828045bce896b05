"""Upper limits on what one response may bring."""

from __future__ import annotations

from typing import Any

import attrs

from imagen_async.exceptions import ConfigurationError

__all__ = ["Caps"]


def _check_positive(_caps: object, field: attrs.Attribute[Any], value: object) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"Caps.{field.name} must be a whole number from 1, not {value!r}")


@attrs.frozen(kw_only=True)
class Caps:
    """Upper limits on one image of a response; an image above them is refused while it arrives.

    Attributes:
        max_image_bytes: Bytes of one image.
        max_pixels: Width × height of one image.

    Raises:
        ConfigurationError: A limit is not a whole number from 1.

    Example:
        >>> Caps(max_image_bytes=10 * 2**20)
        Caps(max_image_bytes=10485760, max_pixels=67108864)
    """

    max_image_bytes: int = attrs.field(default=64 * 2**20, validator=_check_positive)
    max_pixels: int = attrs.field(default=2**26, validator=_check_positive)
