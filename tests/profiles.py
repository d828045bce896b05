"""How thorough the properties are: a modest number of examples by default, many more on demand."""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

__all__ = ["times", "use_profile"]

_VARIABLE = "IMAGEN_TEST_PROFILE"
_EXAMPLES = {"default": 50, "thorough": 2000}


def use_profile() -> None:
    """Load the profile that ``IMAGEN_TEST_PROFILE`` names: ``default`` or ``thorough``."""
    for name, examples in _EXAMPLES.items():
        # A shared machine is slow at times: neither a slow example nor a slow draw is a finding.
        settings.register_profile(
            name, max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
    settings.load_profile(os.environ.get(_VARIABLE, "default"))


def times(factor: float) -> settings:
    """Scale the profile's number of examples for one property: `factor` says how much it needs."""
    return settings(max_examples=max(1, round(factor * settings().max_examples)))
