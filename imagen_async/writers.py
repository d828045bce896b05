"""Writer threads: where base64 is decoded, images are verified and disks may stall.

What is handed to a thread is always waited for, even by a caller that is cancelled: nothing may still be writing to a
file that its owner is about to discard.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Writers"]

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Writers:
    """A few threads.

    Args:
        count: How many.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._pool: ThreadPoolExecutor | None = None

    def __repr__(self) -> str:
        return f"<Writers: {self._count} threads>"

    async def run(self, work: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Do `work` in a thread; a cancellation arrives only when the work has ended."""
        if self._pool is None:
            self._pool = ThreadPoolExecutor(self._count, thread_name_prefix="imagen-writer")
        future = asyncio.wrap_future(self._pool.submit(work, *args, **kwargs))
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError:
                    continue
            if not future.cancelled():
                future.exception()  # seen: the cancellation says more
            raise

    def close(self) -> None:
        """End the threads; all work has been waited for by who asked for it."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
