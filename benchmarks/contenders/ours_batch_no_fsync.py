"""Ours, as a `Batch` that survives the end of its process, not a loss of power: without fsync."""

from __future__ import annotations

from functools import partial

from benchmarks.contenders import ours_batch

__all__ = ["opened"]

opened = partial(ours_batch.opened, fsync=False)
