"""Exit statuses: what a script may rely on.

====  =====================================================================
0     every job succeeded
1     the run ended, and some jobs did not succeed
2     usage or bad input; nothing was sent
3     stopped early (key, model, gateway, budget, disk); the same command resumes it
70    a defect of this program (``EX_SOFTWARE``); its traceback is on stderr
74    the standard output cannot be written (``EX_IOERR``); what was done is kept
130   interrupted by SIGINT, 143 by SIGTERM; the same command resumes it
141   whoever read the standard output went away (SIGPIPE)
====  =====================================================================

Pure: nothing here prints or exits.
"""

from __future__ import annotations

import enum

from imagen_async.exceptions import ImagenError, UsageError

__all__ = ["Exit", "after_error", "after_signal"]


class Exit(enum.IntEnum):
    """The statuses that are not a signal's."""

    SUCCEEDED = 0
    INCOMPLETE = 1
    USAGE = 2
    STOPPED = 3
    DEFECT = 70
    NO_OUTPUT = 74
    BROKEN_PIPE = 141


def after_signal(number: int) -> int:
    """Return the status of a run that this signal ended, as shells count.

    Example:
        >>> after_signal(2), after_signal(15)
        (130, 143)
    """
    return 128 + number


def after_error(error: ImagenError, *, sent: bool = False) -> Exit:
    """Return the status of a command that this error ended.

    Args:
        error: What was raised.
        sent: Whether anything had been sent by then: bad input that shows up late has stopped a run early.

    Example:
        >>> after_error(UsageError("no such folder")), after_error(UsageError("the file has changed"), sent=True)
        (<Exit.USAGE: 2>, <Exit.STOPPED: 3>)
    """
    if isinstance(error, UsageError):
        return Exit.STOPPED if sent else Exit.USAGE
    # Here, because help and completion, which meet no error, would load half of the client with it.
    from imagen_async.client.attempt import stops_everything

    # What else ends a whole run has stopped it early, too; a single request just did not succeed.
    return Exit.STOPPED if sent or stops_everything(error) else Exit.INCOMPLETE
