"""Acceptance runs: a real file of prompts through the real command line, with its result checked from outside.

    python -m tests.acceptance every-image PROMPTS.tsv
    python -m tests.acceptance kill-nine PROMPTS.tsv

These are not tests: they need a file of yours, minutes, and gigabytes. They exit with 0 only if every printed line
holds.
"""
