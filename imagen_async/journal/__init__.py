"""The durable memory of a batch: what was asked, what arrived, what may have been billed for nothing.

An intent is durable before its request is sent; a job that is reported done stays done, whatever kills the
process; and jobs are looked up by key, so that a resume of millions holds none of them in memory.

`face` is what a run uses and `reading` what looks on from outside; `writer` is the thread, `ledger` and `listing` are
what is written and read, `schema` is the file, `lock` keeps a second run out.
"""

from imagen_async.journal.face import Journal
from imagen_async.journal.lines import json_line
from imagen_async.journal.lock import folder_in_use
from imagen_async.journal.reading import read_images, read_newest_doubts, read_receipt, read_status
from imagen_async.journal.records import (
    DIGEST_BYTES,
    INTENT,
    INTERRUPTED,
    Admission,
    Doubt,
    Entry,
    Failure,
    KeptImage,
    ListedDoubt,
    RecordedImage,
    Totals,
    Unanswered,
)

__all__ = [
    "DIGEST_BYTES",
    "INTENT",
    "INTERRUPTED",
    "Admission",
    "Doubt",
    "Entry",
    "Failure",
    "Journal",
    "KeptImage",
    "ListedDoubt",
    "RecordedImage",
    "Totals",
    "Unanswered",
    "folder_in_use",
    "json_line",
    "read_images",
    "read_newest_doubts",
    "read_receipt",
    "read_status",
]
