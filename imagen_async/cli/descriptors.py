"""The system's limit on open files: raised as far as it may be, and if that is not enough, heeded.

Each request in flight needs a connection; a run that has used up its descriptors could no longer open a file for what
it has paid for.
"""

from __future__ import annotations

import sys

from imagen_async.cli.speech import say

if sys.platform != "win32":
    import resource

__all__ = ["affordable", "slots_within"]

_OTHERS = 40
"""Descriptors for all else: the journal, images being written, the input, the terminal, name look-ups."""


def slots_within(limit: int, *, sandbox: bool) -> int:
    """Return how many requests may be in flight at once with so many descriptors; at least one.

    Example:
        >>> slots_within(1024, sandbox=False), slots_within(64, sandbox=False), slots_within(64, sandbox=True)
        (984, 24, 12)
    """
    each = 2 if sandbox else 1  # the sandbox's end of a connection is in this process, too
    return max(1, (limit - _OTHERS) // each)


def affordable(slots: int, *, sandbox: bool) -> int:
    """Make room for so many requests in flight, and return for how many there is room."""
    if sys.platform == "win32":
        return slots  # there is no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _OTHERS + slots * (2 if sandbox else 1)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return slots
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):  # some systems allow less than they say
        limit = soft
    if (fewer := slots_within(limit, sandbox=sandbox)) >= slots:
        return slots
    say(f"imagen-async: {limit} open files are allowed: {fewer} requests at once instead of {slots} (see ulimit -n)")
    return fewer
