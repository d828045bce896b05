"""Ours, into files whatever the task says: what ``stream`` costs where the others keep their images in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from benchmarks.contenders import ours

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    from benchmarks.contenders import Run, Task

__all__ = ["opened"]


def opened(task: Task, *, fsync: bool = False) -> AbstractAsyncContextManager[Run]:
    """Open one client for the whole run."""
    return ours.opened(attrs.evolve(task, in_memory=False), fsync=fsync)
