"""The profiles of hypothesis: few examples for `make check`, 50 by default, many on request."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["times", "use_profile"]

_VARIABLE = "IMAGEN_TEST_PROFILE"
_EXAMPLES = {"quick": 10, "default": 50, "thorough": 2000}


def use_profile() -> None:
    """Load the profile that ``IMAGEN_TEST_PROFILE`` names: ``quick``, ``default``, or ``thorough``."""
    for name, examples in _EXAMPLES.items():
        # On a shared machine a slow example or a slow draw is not a finding.
        settings.register_profile(
            name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
    settings.load_profile(os.environ.get(_VARIABLE, "default"))


def times(factor: float) -> settings:
    """Return settings with the profile's number of examples, multiplied by `factor`."""
    return settings(max_examples=max(1, round(factor * settings().max_examples)))
