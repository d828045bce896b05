"""Reserves disk space for bytes before they are written.

A file system that reserves all blocks in one call need not find them page by page, which makes writing cheaper, on ext4
including the system's later work; and a full disk fails before half an image is written. Where a file system cannot
reserve, glibc writes a byte into each block instead (posix_fallocate(3)), which costs more than it saves; the first
file shows that, and space is then no longer reserved.
"""

from __future__ import annotations

import errno
import os

__all__ = ["Preallocator"]

_LEAST = 2**16
"""Bytes; reserving fewer costs more than it saves."""

_UNSUPPORTED = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.ENODEV})
"""Errors of systems that cannot reserve; musl has no substitute for them."""


class Preallocator:
    """Reserves space in one folder's file system; safe to use from several threads."""

    def __init__(self) -> None:
        self._supported = hasattr(os, "posix_fallocate") and hasattr(os, "SEEK_DATA")
        self._checked = False

    def reserve(self, file: int, offset: int, size: int) -> None:
        """Reserve `size` bytes from `offset` on, which is the file's position and remains so.

        Raises:
            OSError: The disk is full, or failed.
        """
        if not self._supported or size < _LEAST:
            return
        try:
            os.posix_fallocate(file, offset, size)
        except OSError as error:
            if error.errno not in _UNSUPPORTED:
                raise
            self._supported = False
            return
        if not self._checked and not offset:
            self._checked = True
            self._supported = _has_no_data(file)


def _has_no_data(file: int) -> bool:
    """Return whether space was only reserved: glibc's substitute leaves data, a byte in each block."""
    try:
        os.lseek(file, 0, os.SEEK_DATA)
    except OSError as error:
        return error.errno == errno.ENXIO
    os.lseek(file, 0, os.SEEK_SET)
    return False
