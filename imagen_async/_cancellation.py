"""Awaits work that a cancellation must not interrupt; the cancellation is raised after the work has ended.

Work in a thread cannot be interrupted. A caller that is cancelled must still wait for its end before it releases the
folder, the file or the connection that the work uses.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

__all__ = ["ended", "unbroken"]

_T = TypeVar("_T")


async def ended(*futures: asyncio.Future[Any]) -> asyncio.CancelledError | None:
    """Wait until all futures are done, even if the caller is cancelled meanwhile, once or several times.

    Returns:
        The last cancellation, which the caller must raise; None if there was none.
    """
    cancelled: asyncio.CancelledError | None = None
    while pending := [future for future in futures if not future.done()]:
        try:
            await asyncio.wait(pending)
        except asyncio.CancelledError as error:
            cancelled = error
    return cancelled


async def unbroken(work: Coroutine[Any, Any, _T]) -> _T:
    """Run `work` to its end, in a task of its own, and return its result.

    Raises:
        CancelledError: The caller was cancelled meanwhile; an error of the work is its cause.
        BaseException: The error of the work.

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
