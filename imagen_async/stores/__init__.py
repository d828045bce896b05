"""Keeps images in memory, in a folder, or in a store of your own.

A store takes bytes and returns a `Kept`; until the commit nothing is visible.
"""

from imagen_async.stores.local import LocalStore
from imagen_async.stores.memory import MemoryStore
from imagen_async.stores.names import safe_name, shard
from imagen_async.stores.recovery import Found
from imagen_async.stores.store import (
    USUAL_WRITERS,
    GatheringSink,
    ImageName,
    Kept,
    ReadableSink,
    Sink,
    Store,
    ThreadedStore,
    checked_store,
    write_all,
)

__all__ = [
    "USUAL_WRITERS",
    "Found",
    "GatheringSink",
    "ImageName",
    "Kept",
    "LocalStore",
    "MemoryStore",
    "ReadableSink",
    "Sink",
    "Store",
    "ThreadedStore",
    "checked_store",
    "safe_name",
    "shard",
    "write_all",
]
