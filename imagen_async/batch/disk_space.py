"""Room on the disk: looked at before the first request, and watched while a batch runs.

What has been asked for is paid for, so a run stops while there still is room for all that is under way, and for the
journal. A disk that fills up faster than it is looked at, because others write to it, is `keeping`'s.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from imagen_async.exceptions import ConfigurationError, StoreError, printable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from imagen_async.batch.progress import Progress

__all__ = ["MIN_FREE", "Space", "free_bytes"]

MIN_FREE = 16 * 2**20
"""Bytes that stay free: for the journal and the text files, with the ends of all jobs that are under way."""

_USUAL_IMAGE = 3 * 2**20
"""Bytes of an image before some are known: a photographic PNG has 1 to 3 MB."""
_ENOUGH_TO_KNOW = 8


def free_bytes(folder: Path) -> int | None:
    """Return the bytes that may still be written in `folder`, or None where the system does not know."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total else None


class Space:
    """Watches the disk of one batch.

    Args:
        folder: The output folder; it exists when it is looked at.
        progress: Tells how large images are.
        min_free: Bytes that are to stay free; 0 to look at nothing.
        free: Looks; called in a thread.

    Raises:
        ConfigurationError: `min_free` is negative.
    """

    def __init__(
        self,
        folder: Path,
        progress: Progress,
        *,
        min_free: int = MIN_FREE,
        free: Callable[[Path], int | None] = free_bytes,
    ) -> None:
        if min_free < 0:
            raise ConfigurationError(f"min_free must be a number of bytes from 0, not {min_free}")
        self._folder = folder
        self._progress = progress
        self._min_free = min_free
        self._free = free
        self._looking = asyncio.Lock()
        self._looked = False

    async def before_the_first(self, images: int) -> None:
        """Look once, before anything is sent.

        Args:
            images: How many may be under way at first.

        Raises:
            StoreError: There is no room for them.
        """
        if self._looked:
            return
        async with self._looking:
            if not self._looked:
                await self._look(images)
                self._looked = True

    async def watch(
        self,
        under_way: Callable[[], int],
        *,
        every_s: float = 1.0,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        """Look every `every_s` seconds until cancelled.

        Args:
            under_way: Tells how many images may still come.
            every_s: Seconds between two looks.
            sleep: Waits.

        Raises:
            StoreError: Room is left for no more than what is under way.
        """
        while self._min_free:
            await sleep(every_s)
            await self._look(under_way())

    async def _look(self, images: int) -> None:
        if not self._min_free:
            return
        free = await asyncio.to_thread(self._free, self._folder)
        needed = self._min_free + images * self._usual_size()
        if free is not None and free < needed:
            raise StoreError(
                f"only {_mib(free)} are free for {printable(str(self._folder))}, and {_mib(needed)} are to be before "
                f"more is sent ({_mib(self._min_free)}, and the images under way): make room and run again, "
                "or lower min_free (--min-free)",
                path=str(self._folder),
            )

    def _usual_size(self) -> int:
        known = self._progress
        return known.bytes // known.images if known.images >= _ENOUGH_TO_KNOW else _USUAL_IMAGE


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
