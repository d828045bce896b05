"""``invalid.jsonl``: the rows that were skipped because they are not valid, each with every mistake."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from imagen_async.batch.folder import INVALID_NAME, opened, translated, write

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.batch.sources.rows import BadRow

__all__ = ["InvalidFile"]


class InvalidFile:
    """The list of one run; begun anew by the next.

    Args:
        folder: Where it goes.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / INVALID_NAME

    def clear(self) -> None:
        """Forget what an earlier run listed.

        Raises:
            StoreError: The file cannot be removed.
        """
        with translated(self._path):
            self._path.unlink(missing_ok=True)

    def add(self, row: BadRow) -> None:
        """List a row.

        Raises:
            StoreError: The file is a link, or cannot be written.
        """
        with translated(self._path), opened(self._path, os.O_CREAT | os.O_APPEND) as file:
            write(file, f"{json.dumps({'line': row.line, 'problems': row.problems})}\n".encode())
