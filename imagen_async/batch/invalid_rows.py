"""``invalid.jsonl``: the invalid rows that were skipped, each with all of its mistakes."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from imagen_async.batch.folder import INVALID_NAME, opened, translated

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.batch.sources.rows import BadRow

__all__ = ["InvalidFile"]


class InvalidFile:
    """The invalid rows of one run.

    Args:
        folder: The output folder.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / INVALID_NAME

    def clear(self) -> None:
        """Remove the list of an earlier run.

        Raises:
            StoreError: The file cannot be removed.
        """
        with translated(self._path):
            self._path.unlink(missing_ok=True)

    def add(self, row: BadRow) -> None:
        """Add a row.

        Raises:
            StoreError: The file is a link, or cannot be written.
        """
        with translated(self._path), opened(self._path, os.O_CREAT | os.O_APPEND) as file:
            file.write(f"{json.dumps({'line': row.line, 'problems': row.problems})}\n".encode())
