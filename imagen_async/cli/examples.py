"""Examples at the end of each command's help."""

from __future__ import annotations

__all__ = ["ALL", "GENERATE", "MODELS", "RUN", "SANDBOX", "STATUS"]

ALL = """\
Examples:

  imagen-async generate "A red fox at dawn" --sandbox
  imagen-async run prompts.txt --output out --sandbox
  IMAGEN_API_KEY=… imagen-async run prompts.csv --output out
  imagen-async status out

Exit status:

  0    every job succeeded
  1    the run ended, some jobs did not succeed
  2    usage or bad input, nothing was sent
  3    stopped early (key, model, budget, disk): the same command resumes
  70   a defect of this program
  130  interrupted by Ctrl-C, 143 by SIGTERM: the same command resumes
"""

GENERATE = """\
Examples:

  imagen-async generate "A red fox at dawn"         # a-red-fox-at-dawn.png
  imagen-async generate "A red fox" -o fox.jpg      # a JPEG of that name
  imagen-async generate "A red fox" -n 4 -o foxes/  # four files in a folder
  imagen-async generate "A red fox" -o - | magick - fox.webp
  imagen-async generate "A red fox" --sandbox       # no key, no cost
"""

RUN = """\
Examples:

  imagen-async run prompts.txt -o out --sandbox     # no key, no cost
  imagen-async run prompts.csv -o out --dry-run --rpm 60
  imagen-async run prompts.csv -o out --rpm 60 --budget 25
  imagen-async run prompts.csv -o out               # again: resumes
  imagen-async run prompts.csv -o out --retry-failed
  imagen-async run prompts.csv -o out --redo-damaged  # after status --verify
  generate-prompts | imagen-async run - -o out --input-format jsonl --json

Columns named like request fields (prompt, model, n, aspect_ratio,
output_format, style) set them for their row, id names the job, and all
others are copied into the metadata. Ctrl-C finishes the requests in
flight, a second one cancels them, a third exits immediately.
"""

STATUS = """\
Examples:

  imagen-async status out
  imagen-async status out --json | jq .failed
  imagen-async status out --verify                  # reads every image
"""

MODELS = """\
Examples:

  imagen-async models
  imagen-async models --remote              # tests the key at no cost
  imagen-async models --catalog mine.toml --json

A catalog file has a table for each id, with quotes around ids that hold a dot:

  ["my-finetune-1.0"]
  prompt_tokens = 256
  price_usd = 0.01
"""

SANDBOX = """\
Examples:

  imagen-async sandbox
  imagen-async sandbox --port 8080 --latency 2-8 --rpm 60 --retry-after exact
  imagen-async sandbox --fault 429=10% 500=0.05 disconnect=0.01 --seed 7
  imagen-async sandbox --list-faults
"""
