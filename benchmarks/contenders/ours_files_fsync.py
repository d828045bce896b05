"""Ours, into files that survive a loss of power: each image is flushed to the disk, and its folder is."""

from __future__ import annotations

from functools import partial

from benchmarks.contenders import ours_files

__all__ = ["opened"]

opened = partial(ours_files.opened, fsync=True)
