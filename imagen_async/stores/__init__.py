"""Keeps images in memory, in a folder, or in a store of your own.

A store takes bytes and returns a `Kept`; until the commit nothing is visible.
"""

from imagen_async.stores.local import LocalStore
from imagen_async.stores.memory import MemoryStore
from imagen_async.stores.names import safe_name, shard
from imagen_async.stores.recovery import Found
from imagen_async.stores.store import ImageName, Kept, Sink, Store, write_all

__all__ = [
    "Found",
    "ImageName",
    "Kept",
    "LocalStore",
    "MemoryStore",
    "Sink",
    "Store",
    "safe_name",
    "shard",
    "write_all",
]
