"""Upper limits on what one response may bring."""

from __future__ import annotations

import attrs

from imagen_async._validation import Number

__all__ = ["Caps"]


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

    max_image_bytes: int = attrs.field(default=64 * 2**20, validator=Number(1, whole=True))
    max_pixels: int = attrs.field(default=2**26, validator=Number(1, whole=True))
