"""What the attacks share."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def _few_objects() -> Iterator[None]:
    """Leave out of every collection what was there before: each attack ends with one."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()
