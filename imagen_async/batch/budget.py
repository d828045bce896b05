"""What a folder may cost: images and money, reserved before a request leaves.

Requests in flight and in doubt count as spent until it is known that they were not billed.
"""

from __future__ import annotations

import attrs

from imagen_async.exceptions import LimitReachedError

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

    Example:
        >>> budget = Budget(max_images=5)
        >>> budget.reserve(Cost(4, 0.16))
        >>> budget.reserve(Cost(4, 0.16))
        Traceback (most recent call last):
        imagen_async.exceptions.LimitReachedError: the cap of 5 images leaves no room for a request of 4: ...
    """

    def __init__(self, *, max_images: int | None = None, max_usd: float | None = None) -> None:
        self._max_images = max_images
        self._max_usd = max_usd
        self.images = 0
        self.usd = 0.0

    @property
    def capped(self) -> bool:
        """Whether there is a cap."""
        return self._max_images is not None or self._max_usd is not None

    def spend(self, cost: Cost) -> None:
        """Count `cost`, whatever the caps."""
        self.images += cost.images
        self.usd += cost.usd

    def reserve(self, cost: Cost) -> None:
        """Count `cost` if both caps allow it.

        Raises:
            LimitReachedError: A cap leaves no room for it; nothing was counted.
        """
        over = self._max_images is not None and self.images + cost.images > self._max_images
        # Prices are multiples of a hundredth of a cent: rounding errors of a sum must not reach the cap.
        over = over or (self._max_usd is not None and self.usd + cost.usd > self._max_usd + 1e-9)
        if over:
            caps = [f"{self._max_images} images"] if self._max_images is not None else []
            caps += [f"{self._max_usd:g} USD"] if self._max_usd is not None else []
            raise LimitReachedError(
                f"the cap of {' and '.join(caps)} leaves no room for a request of {cost.images}: {self.images} images, "
                f"{self.usd:.2f} USD are spent, in doubt or in flight; raise it and run again to continue"
            )
        self.spend(cost)

    def release(self, cost: Cost) -> None:
        """Subtract a reserved cost that was not billed."""
        self.images -= cost.images
        self.usd = max(0.0, self.usd - cost.usd)
