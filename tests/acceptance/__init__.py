"""Acceptance by command: a real file of prompts, the real command line, and what came of it looked at from outside.

    python -m tests.acceptance every-image PROMPTS.tsv
    python -m tests.acceptance kill-nine PROMPTS.tsv

No test: they take a file of yours, minutes, and gigabytes. They exit 0 only if every line they print holds.
"""
