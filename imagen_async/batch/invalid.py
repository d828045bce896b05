"""``invalid.jsonl``: the rows that were skipped because they are not valid, each with every mistake."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from imagen_async.exceptions import StoreError

if TYPE_CHECKING:
    from pathlib import Path

    from imagen_async.batch.rows import BadRow

__all__ = ["INVALID_NAME", "InvalidFile"]

INVALID_NAME = "invalid.jsonl"


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
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self._path} cannot be removed: {error.strerror}", path=str(self._path)) from error

    def add(self, row: BadRow) -> None:
        """List a row.

        Raises:
            StoreError: The file cannot be written.
        """
        try:
            with self._path.open("a", encoding="ascii") as file:
                file.write(json.dumps({"line": row.line, "problems": row.problems}) + "\n")
        except OSError as error:
            raise StoreError(f"{self._path} cannot be written: {error.strerror}", path=str(self._path)) from error
