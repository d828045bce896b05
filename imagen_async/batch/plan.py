"""Estimates a batch: jobs, images, cost and time, with nothing sent."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import attrs

from imagen_async.catalog import CATALOG, Catalog

if TYPE_CHECKING:
    from imagen_async.batch.sources.source import Report

__all__ = ["Plan"]


@attrs.frozen(kw_only=True)
class Plan:
    """The size of a batch if every first request succeeds.

    Attributes:
        rows: Rows of the input, without bad ones.
        jobs: Requests; a row may need several.
        images: Images.
        cost_usd: Cost by list price; None if a model's price is unknown.
        seconds: Time at the given rates; None without one.
        notes: Each note, and the number of rows that it applies to.
    """

    rows: int
    jobs: int
    images: int
    cost_usd: float | None
    seconds: float | None
    notes: Mapping[str, int]

    @classmethod
    def of(
        cls,
        report: Report,
        *,
        catalog: Catalog = CATALOG,
        rpm: float | None = None,
        images_per_minute: float | None = None,
    ) -> Plan:
        """Estimate a batch from what `Source.check` found.

        Args:
            report: The result of the first pass.
            catalog: Prices of the models.
            rpm: Requests a minute, or None.
            images_per_minute: Images a minute, or None.
        """
        prices = [
            (images, catalog[model].price_usd if model in catalog else None) for model, images in report.models.items()
        ]
        known = sum(report.models.values()) == report.images and all(price is not None for _, price in prices)
        return cls(
            rows=report.rows - report.bad,
            jobs=report.requests,
            images=report.images,
            cost_usd=round(math.fsum(images * (price or 0.0) for images, price in prices), 6) if known else None,
            seconds=_seconds((report.requests, rpm), (report.images, images_per_minute)),
            notes=report.notes,
        )


def _seconds(*rates: tuple[int, float | None]) -> float | None:
    """Return the seconds between the first and the last at the slowest rate, or None without a rate."""
    return max((max(0, count - 1) * 60.0 / rate for count, rate in rates if rate), default=None)
