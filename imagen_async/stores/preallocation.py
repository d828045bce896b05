"""Room on the disk for bytes that are about to be written, taken at once.

A file system that is asked for all of it beforehand need not find it page by page, which makes writing cheaper, on ext4
also with all that the system does later; and a full disk says so before half an image is written. Where a file system
cannot do it, glibc writes a byte into each block instead (posix_fallocate(3)), which costs more than it spares; the
first file shows that, and then nobody is asked again. Nothing here knows of images.
"""

from __future__ import annotations

import errno
import os

__all__ = ["Room"]

_LEAST = 2**16
"""Bytes; for fewer it costs more than it spares."""

_CANNOT = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})
"""What systems say that do not know of it; musl has no stand-in for them."""


class Room:
    """Takes room in one folder's file system; for several threads."""

    def __init__(self) -> None:
        self._can = hasattr(os, "posix_fallocate") and hasattr(os, "SEEK_DATA")
        self._tried = False

    def take(self, file: int, offset: int, size: int) -> None:
        """Take room for `size` bytes from `offset` on, which is where the file's position is and stays.

        Raises:
            OSError: The disk is full, or fails.
        """
        if not self._can or size < _LEAST:
            return
        try:
            os.posix_fallocate(file, offset, size)
        except OSError as error:
            if error.errno not in _CANNOT:
                raise
            self._can = False
            return
        if not self._tried and not offset:
            self._tried = True
            self._can = _holds_nothing(file)


def _holds_nothing(file: int) -> bool:
    """Tell whether room was only taken: what somebody has written is data, be it one byte a block."""
    try:
        os.lseek(file, 0, os.SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    os.lseek(file, 0, os.SEEK_SET)
    return False
