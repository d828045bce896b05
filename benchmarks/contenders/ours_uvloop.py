"""Ours in uvloop's event loop; runs only when named."""

from __future__ import annotations

import uvloop

from benchmarks.contenders.ours import opened

__all__ = ["loop_factory", "opened"]

loop_factory = uvloop.new_event_loop
