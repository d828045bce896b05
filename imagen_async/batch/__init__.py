"""A file of prompts in, a folder of images out, and a journal that survives a crash."""

from imagen_async.batch.estimate import Plan
from imagen_async.batch.rows import BadRow, Row
from imagen_async.batch.run import Batch
from imagen_async.batch.sources import FORMATS, Report, Source, open_source
from imagen_async.batch.tally import Progress, Summary

__all__ = [
    "FORMATS",
    "BadRow",
    "Batch",
    "Plan",
    "Progress",
    "Report",
    "Row",
    "Source",
    "Summary",
    "open_source",
]
