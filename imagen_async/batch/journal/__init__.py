"""The durable memory of a batch: what was asked, what arrived, what may have been billed for nothing.

An intent is durable before its request is sent; a job that is reported done stays done, whatever kills the
process; and jobs are looked up by key, so that a resume of millions holds none of them in memory.

`journal` is what a run uses, `reader` is what another process uses; `thread` owns the connection, `transitions` and
`queries` are what is written and read, `schema` is the file, `lock` keeps a second run out.
"""

from imagen_async.batch.journal.journal import Journal
from imagen_async.batch.journal.json_lines import json_line
from imagen_async.batch.journal.lock import folder_in_use
from imagen_async.batch.journal.reader import read_images, read_newest_doubts, read_receipt, read_status
from imagen_async.batch.journal.values import (
    DIGEST_BYTES,
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
    "DIGEST_BYTES",
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
    "read_images",
    "read_newest_doubts",
    "read_receipt",
    "read_status",
]
