"""Exit statuses that scripts can rely on.

====  =====================================================================
0     every job succeeded
1     the run ended, and some jobs did not succeed
2     usage or bad input; nothing was sent
3     stopped early (key, model, gateway, budget, disk); the same command resumes it
70    a defect of this program (``EX_SOFTWARE``); its traceback is on stderr
74    stdout cannot be written (``EX_IOERR``); everything done so far is kept
130   interrupted by SIGINT, 143 by SIGTERM; the same command resumes it
141   the reader of stdout closed it (SIGPIPE)
====  =====================================================================
"""

from __future__ import annotations

import enum

from imagen_async.exceptions import ImagenError, UsageError

__all__ = ["Exit", "after_error", "after_signal"]


class Exit(enum.IntEnum):
    """The statuses that do not follow from a signal."""

    SUCCEEDED = 0
    INCOMPLETE = 1
    USAGE = 2
    STOPPED = 3
    DEFECT = 70
    NO_OUTPUT = 74
    BROKEN_PIPE = 141


def after_signal(number: int) -> int:
    """Return the status of a run that a signal ended, by the convention of shells.

    Example:
        >>> after_signal(2), after_signal(15)
        (130, 143)
    """
    return 128 + number


def after_error(error: ImagenError, *, sent: bool = False) -> Exit:
    """Return the status of a command that an error ended.

    Args:
        error: What was raised.
        sent: Whether requests had been sent: bad input that is found late has stopped a run early.

    Example:
        >>> after_error(UsageError("no such folder")), after_error(UsageError("the file has changed"), sent=True)
        (<Exit.USAGE: 2>, <Exit.STOPPED: 3>)
    """
    if isinstance(error, UsageError):
        return Exit.STOPPED if sent else Exit.USAGE
    # Imported here, because it loads half of the client, which help and completion do not need.
    from imagen_async.client.stop import stops_everything

    # An error that stops a whole run stopped it early; any other ended a single request.
    return Exit.STOPPED if sent or stops_everything(error) else Exit.INCOMPLETE
