"""Work that a cancellation must not break off half way: it is waited for, and the cancellation arrives afterwards.

What is under way in a thread, or is being written down, goes on whether anybody waits or not. Whoever is cancelled
meanwhile must know that it has ended before the folder, the file or the connection is given up.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["ended", "unbroken"]

_T = TypeVar("_T")


async def ended(*futures: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until all of them have ended, however often we are cancelled meanwhile.

    Returns:
        The last cancellation, which the caller has to raise; None if there was none.
    """
    cancelled: asyncio.CancelledError | None = None
    while pending := [future for future in futures if not future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def unbroken(work: Coroutine[Any, Any, _T]) -> _T:
    """Do `work` to its end, in a task of its own.

    Raises:
        CancelledError: We were cancelled meanwhile; what the work raised, if anything, is its cause.
        BaseException: Whatever the work raised.

    Example:
        >>> done = []
        >>> async def work():
        ...     await asyncio.sleep(0)
        ...     done.append("written")
        >>> async def main():
        ...     task = asyncio.create_task(unbroken(work()))
        ...     await asyncio.sleep(0)
        ...     task.cancel()
        ...     await asyncio.wait([task])
        ...     return task.cancelled(), done
        >>> asyncio.run(main())
        (True, ['written'])
    """
    task = asyncio.ensure_future(work)
    cancelled = await ended(task)
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()
