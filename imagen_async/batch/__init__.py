"""A file of prompts in, a folder of images out, and a journal that survives a crash."""

from imagen_async.batch.batch import Batch
from imagen_async.batch.plan import Plan
from imagen_async.batch.progress import Progress, Summary
from imagen_async.batch.sources.rows import BadRow, Row
from imagen_async.batch.sources.source import FORMATS, Report, Source, open_source
from imagen_async.batch.verify import Damage, Problem, Verification

__all__ = [
    "FORMATS",
    "BadRow",
    "Batch",
    "Damage",
    "Plan",
    "Problem",
    "Progress",
    "Report",
    "Row",
    "Source",
    "Summary",
    "Verification",
    "open_source",
]
