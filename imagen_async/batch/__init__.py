"""A file of prompts in, a folder of images out, and a journal that survives a crash."""

from imagen_async.batch.estimate import Plan
from imagen_async.batch.rows import BadRow, Row
from imagen_async.batch.run import Batch
from imagen_async.batch.sources import FORMATS, Report, Source, open_source
from imagen_async.batch.tally import Progress, Summary
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
