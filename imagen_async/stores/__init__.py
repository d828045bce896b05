"""Keeps images in memory, in a folder, or in a store of your own.

A store takes bytes and returns a `Kept`; until the commit nothing is visible. The protocols `ThreadedStore`,
`GatheringSink` and `ReadableSink` declare what a store may have besides.
"""

from imagen_async.stores.local import LocalStore
from imagen_async.stores.memory import MemoryStore
from imagen_async.stores.names import safe_name, shard
from imagen_async.stores.recovery import Found
from imagen_async.stores.store import (
    GatheringSink,
    ImageName,
    Kept,
    ReadableSink,
    Sink,
    Store,
    ThreadedStore,
    write_all,
)

__all__ = [
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
    "safe_name",
    "shard",
    "write_all",
]
