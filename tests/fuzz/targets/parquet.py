"""Parquet: rows, or one clear refusal; what pyarrow makes of damage is its own, but nothing of it gets past us."""

from __future__ import annotations

import io

from imagen_async.batch.sources.parquet import read_parquet
from imagen_async.batch.sources.rows import Terms
from tests.fuzz.rows import collected

__all__ = ["LONGEST", "WORDS", "check"]

LONGEST = 4096
WORDS = (
    b"PAR1",
    b"prompt",
    b"schema",
    b"ARROW:schema",
    b"\x15\x00",
    b"\x15\x02",
    b"\x18\x06",
    b"\x19\x1c",
    b"\x00\x00\x00",
)


def check(data: bytes) -> None:
    """Read `data` twice: the same rows, or the same refusal."""
    rows = collected(read_parquet(io.BytesIO(data), Terms(), "prompts.parquet"))
    assert collected(read_parquet(io.BytesIO(data), Terms(), "prompts.parquet")) == rows
