"""Raises the system's limit on open files, and lowers the concurrency if that is not enough.

Each request in flight needs a connection. A run that has used up its descriptors could not open a file for an image
that it has paid for.
"""

from __future__ import annotations

import sys

from imagen_async.cli.console import write_message

if sys.platform != "win32":
    import resource

__all__ = ["affordable_concurrency", "concurrency_within"]

_OTHERS = 40
"""Descriptors for everything else: the journal, open images, the input, the terminal, DNS look-ups."""


def concurrency_within(limit: int, *, sandbox: bool) -> int:
    """Return how many requests may be in flight with `limit` descriptors; at least one.

    Example:
        >>> concurrency_within(1024, sandbox=False), concurrency_within(64, sandbox=False)
        (984, 24)
        >>> concurrency_within(64, sandbox=True)
        12
    """
    each = 2 if sandbox else 1  # the sandbox's end of each connection is in this process, too
    return max(1, (limit - _OTHERS) // each)


def affordable_concurrency(wanted: int, *, sandbox: bool) -> int:
    """Raise the limit on open files as far as `wanted` requests in flight need, and return how many it allows."""
    if sys.platform == "win32":
        return wanted  # there is no such limit
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = _OTHERS + wanted * (2 if sandbox else 1)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return wanted
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    except (OSError, ValueError):  # some systems allow less than their hard limit
        limit = soft
    if (fewer := concurrency_within(limit, sandbox=sandbox)) >= wanted:
        return wanted
    write_message(
        f"imagen-async: the limit on open files is {limit}: {fewer} concurrent requests instead of {wanted}; "
        "raise it with ulimit -n"
    )
    return fewer
