"""What the figures were measured on, in one sentence: processor, load, system, interpreter, packages."""

from __future__ import annotations

import os
import platform
from importlib.metadata import distributions
from pathlib import Path

from benchmarks.processes import HOME, OWN_ENVIRONMENTS

__all__ = ["described"]


def described(*packages: str) -> str:
    """Describe this machine, its load at this moment, and the versions of `packages`."""
    versions = ", ".join(f"{name} {_version(name)}" for name in packages)
    return (
        f"{_cpu()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; {platform.system()} "
        f"{platform.release()}; {platform.python_implementation()} {platform.python_version()}; {versions}."
    )


def _version(package: str) -> str:
    """Look where the contender looks that needs it."""
    own = [str(folder) for folder in OWN_ENVIRONMENTS.get(package, HOME).glob("lib/python*/site-packages")]
    found = distributions(name=package, path=own) if own else distributions(name=package)
    return next((each.version for each in found), "not installed")


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
