from __future__ import annotations

import io

import pytest
from PIL import Image

from benchmarks.picture import SMALLEST, png


@pytest.mark.parametrize(
    ("size", "side"), [(SMALLEST, 16), (1_001, 16), (19_999, 16), (20_000, 1024), (1_500_000, 1024), (4_000_000, 1024)]
)
def test_a_picture_is_complete_and_has_exactly_the_requested_size(size: int, side: int) -> None:
    data = png(size)
    assert len(data) == size
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        assert image.size == (side, side)


def test_a_size_below_the_smallest_is_refused() -> None:
    with pytest.raises(ValueError, match="1000 is the least"):
        png(SMALLEST - 1)
