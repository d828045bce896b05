"""The contenders: the same jobs with the same number of permits, otherwise as their documentation advises.

A module's import is its whole set-up: one whose package is missing fails there and nowhere else.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import attrs

__all__ = ["NAMES", "Contender", "Task", "load"]


@attrs.frozen
class Task:
    """What one batch is to do.

    Attributes:
        url: The gateway, without a path.
        prompts: One a job.
        out: A folder of its own, which is not there yet.
        told: Is called for every job that ends, with whether it gave its image.
    """

    url: str
    prompts: list[str]
    out: Path
    told: Callable[[bool], None]


Contender = Callable[[Task], Awaitable[None]]

_WHERE = {
    "ours": ("ours", "streamed", {}),
    "ours, journalled": ("ours", "journalled", {}),
    "openai-python, 2 retries": ("openai_python", "asked", {"retries": 2}),
    "openai-python, 10 retries": ("openai_python", "asked", {"retries": 10}),
}
NAMES = tuple(_WHERE)


def load(name: str) -> Contender:
    """Import a contender.

    Raises:
        ImportError: If what it needs is not installed.
    """
    module, function, options = _WHERE[name]
    return partial(getattr(import_module(f"{__name__}.{module}"), function), **options)
