"""What may be spent: images and money, reserved before a request leaves.

A cap is a cap: what is in flight and what is in doubt count as spent until it is known that they were not billed.
"""

from __future__ import annotations

import attrs

__all__ = ["Budget", "Cost"]


@attrs.frozen
class Cost:
    """What a request may cost at most: images, and US dollars (0 where the price is unknown)."""

    images: int
    usd: float


class Budget:
    """Counts what was spent and what is reserved against two caps.

    Args:
        max_images: Most images, or None.
        max_usd: Most US dollars, or None.
        spent: What earlier runs spent.

    Example:
        >>> budget = Budget(max_images=5)
        >>> budget.reserve(Cost(4, 0.16)), budget.reserve(Cost(4, 0.16))
        (True, False)
    """

    def __init__(
        self, *, max_images: int | None = None, max_usd: float | None = None, spent: Cost | None = None
    ) -> None:
        self._max_images = max_images
        # Prices are multiples of a hundredth of a cent at the finest: sums of floats must not trip the cap.
        self._max_usd = None if max_usd is None else max_usd + 1e-9
        self.images = spent.images if spent else 0
        self.usd = spent.usd if spent else 0.0

    def reserve(self, cost: Cost) -> bool:
        """Set `cost` aside if both caps allow it; say whether they did."""
        if self._max_images is not None and self.images + cost.images > self._max_images:
            return False
        if self._max_usd is not None and self.usd + cost.usd > self._max_usd:
            return False
        self.images += cost.images
        self.usd += cost.usd
        return True

    def release(self, cost: Cost) -> None:
        """Give back what turned out not to be billed."""
        self.images -= cost.images
        self.usd = max(0.0, self.usd - cost.usd)
