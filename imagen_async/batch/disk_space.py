"""Room on the disk, checked before the first request and while a batch runs.

A requested image is paid for, so a run stops while there is room for the images in flight and for the journal. A disk
that fills up between two checks is handled by `receiver.spill`.
"""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

from imagen_async._validation import Number
from imagen_async.exceptions import StoreError, printable

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.batch.progress import Progress

__all__ = ["MIN_FREE", "Space", "free_bytes"]

MIN_FREE = 16 * 2**20
"""Bytes that stay free: for the journal and the text files, when all jobs in flight end."""

_USUAL_IMAGE = 3 * 2**20
"""Bytes of an image before some are known: a photographic PNG has 1 to 3 MB."""
_ENOUGH_TO_KNOW = 8


def free_bytes(folder: Path) -> int | None:
    """Return the bytes that can be written in `folder`, or None if the system does not say."""
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None
    return usage.free if usage.total else None


class Space:
    """Watches the disk of one batch.

    Args:
        folder: The output folder.
        progress: Counts images and bytes.
        min_free: Bytes that are to stay free; 0 turns the check off.

    Raises:
        ConfigurationError: `min_free` is not a whole number from 0.
    """

    def __init__(self, folder: Path, progress: Progress, *, min_free: int = MIN_FREE) -> None:
        Number(0, whole=True).check("min_free", min_free)
        self._folder = folder
        self._progress = progress
        self._min_free = min_free
        self._checking = asyncio.Lock()
        self._checked = False

    async def before_the_first(self, images: int) -> None:
        """Check once, before the first request.

        Args:
            images: How many may be in flight at first.

        Raises:
            StoreError: There is no room for them.
        """
        if self._checked:
            return
        async with self._checking:
            if not self._checked:
                await self.check(images)
                self._checked = True

    async def check(self, images: int) -> None:
        """Check that there is room for `images` more.

        Raises:
            StoreError: There is none.
        """
        if not self._min_free:
            return
        free = await asyncio.to_thread(free_bytes, self._folder)
        known = self._progress
        size = known.bytes // known.images if known.images >= _ENOUGH_TO_KNOW else _USUAL_IMAGE
        needed = self._min_free + images * size
        if free is not None and free < needed:
            raise StoreError(
                f"only {_mib(free)} are free in {printable(str(self._folder))}; sending more needs {_mib(needed)} "
                f"({_mib(self._min_free)}, and the images in flight): make room and run again, "
                "or lower min_free (--min-free)",
                path=str(self._folder),
            )


def _mib(size: int) -> str:
    return f"{size / 2**20:,.1f} MiB"
