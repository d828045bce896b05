"""What Windows does differently, for tests that run elsewhere."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pytest

DESCRIPTORS = Path("/proc/self/fd")


def lock_open_files(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no file be linked, renamed or removed while this process has it open."""

    def locked(call: str) -> Any:
        real = getattr(os, call)

        def refuse_if_open(path: str, *others: Any, **options: Any) -> Any:
            if os.path.realpath(path) in {os.path.realpath(file) for file in DESCRIPTORS.iterdir()}:
                raise OSError(errno.EACCES, f"{call} of an open file", path)
            return real(path, *others, **options)

        return refuse_if_open

    for call in ("link", "rename", "unlink"):
        monkeypatch.setattr(os, call, locked(call))
