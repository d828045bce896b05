"""The durable memory of a batch: which requests were sent, which images arrived, which requests are in doubt.

An intent is durable before its request is sent. A job that is reported done stays done, however the process ends. Jobs
are looked up by key, so that a resume of millions holds none of them in memory.

A run uses `journal`, another process `reader`. `thread` owns the connection; `admission`, `transitions` and `queries`
are the steps; `schema` is the file; `lock` keeps a second run out.
"""

from imagen_async.batch.journal.journal import Journal
from imagen_async.batch.journal.json_lines import json_line
from imagen_async.batch.journal.lock import folder_in_use
from imagen_async.batch.journal.reader import read, read_finished_input, read_newest_doubts, read_status
from imagen_async.batch.journal.values import (
    INTENT,
    INTERRUPTED,
    Admission,
    Doubt,
    Entry,
    Failure,
    ListedDoubt,
    RecordedImage,
    Totals,
    Unanswered,
)

__all__ = [
    "INTENT",
    "INTERRUPTED",
    "Admission",
    "Doubt",
    "Entry",
    "Failure",
    "Journal",
    "ListedDoubt",
    "RecordedImage",
    "Totals",
    "Unanswered",
    "folder_in_use",
    "json_line",
    "read",
    "read_finished_input",
    "read_newest_doubts",
    "read_status",
]
