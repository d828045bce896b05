"""What the figures were measured on, in one sentence: processor, load, system, interpreter, packages."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

__all__ = ["described"]


def described(*packages: str) -> str:
    """Describe this machine, its load at this moment, and the versions of `packages`."""
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    return (
        f"{_cpu()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; {platform.system()} "
        f"{platform.release()}; {platform.python_implementation()} {platform.python_version()}; {versions}."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
