"""``python -m benchmarks``: play the rounds, print the table, keep the figures under ``benchmarks/results/``."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import attrs

from benchmarks.arguments import natural
from benchmarks.contenders import NAMES
from benchmarks.machine import described
from benchmarks.picture import SMALLEST
from benchmarks.processes import HOME
from benchmarks.rounds import Plan, Results, play
from benchmarks.table import as_markdown, as_text, rows, verdict

RESULTS = HOME / "benchmarks" / "results"
IMAGES = {
    "ours": 600,
    "ours-core": 600,
    "openai-python": 120,
    "google-genai": 300,
    "aiohttp-json": 180,
    "bare": 900,
}
"""Images a run: some two seconds of each, so that what the machine does meanwhile hits all alike."""
MEMORY_NAMES = ("ours", "openai-python", "aiohttp-json")
MEMORY_IN_FLIGHT = 300
PACKAGES = ("imagen-async", "aiohttp", "pybase64", "isal", "openai", "google-genai")


def main() -> int:
    """Run the command line; 0 if every contender that is installed gave its figures, 1 otherwise."""
    options = _options()
    plan = _plan(options)
    where = _environment(plan)
    print(where, flush=True)
    results = play(plan, tell=lambda line: print(line, file=sys.stderr, flush=True))
    _remove_if_empty(plan.folder)
    table = rows(results.runs, results.absent)
    conclusion = verdict(results.runs, results.absent)
    # Kept first: a closed pipe must not cost minutes of figures.
    kept = _keep(options.results or _file_for(options), plan, results, [where, as_markdown(table), conclusion])
    print("", as_text(table), conclusion, "", as_markdown(table), sep="\n")
    print(f"\nkept in {kept} and {kept.with_suffix('.md').name}")
    return int(any(not reason.startswith("not installed") for reason in results.absent.values()))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--contenders", type=_names, help=f"comma-separated, of {', '.join(NAMES)} (all)")
    parser.add_argument("--rounds", type=natural, help="runs of each contender, alternating (3)")
    parser.add_argument("--images", type=natural, help=f"images a run ({IMAGES})")
    parser.add_argument("--size", type=natural, default=1_500_000, help="bytes of an image (%(default)s)")
    parser.add_argument("--concurrency", type=natural, help=f"requests at once (32; --memory: {MEMORY_IN_FLIGHT})")
    parser.add_argument("--n", type=natural, help="images a request (1; --memory: 4)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before every answer (%(default)s)")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that one run may take (%(default)s)")
    parser.add_argument("--folder", type=Path, default=HOME / "bench-out", help="where the images go for a while")
    parser.add_argument("--results", type=Path, help="the JSON file to keep the figures in")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    parser.add_argument("--memory", action="store_true", help="many requests in flight, all answered at once")
    options = parser.parse_args()
    if options.size < SMALLEST:
        parser.error(f"--size must be at least {SMALLEST}")
    return options


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not of {', '.join(NAMES)}")
    return names


def _plan(options: argparse.Namespace) -> Plan:
    names = options.contenders or (MEMORY_NAMES if options.memory else NAMES)
    n = options.n or (4 if options.memory else 1)
    concurrency = options.concurrency or (MEMORY_IN_FLIGHT if options.memory else 32)
    if options.images:
        images = dict.fromkeys(names, options.images)
    elif options.memory:
        images = dict.fromkeys(names, concurrency * n)
    else:
        images = {name: 64 if options.quick else IMAGES[name] for name in names}
    return Plan(
        contenders=names,
        images=images,
        rounds=options.rounds or (1 if options.quick else 3),
        size=options.size,
        n=n,
        concurrency=concurrency,
        warm_up=0 if options.memory else 32,
        # Each peer is given what suits it: threads are faster, the loop needs less memory.
        in_loop=options.memory,
        hold=concurrency if options.memory else 1,
        latency=options.latency,
        limit=options.limit,
        folder=options.folder,
    )


def _environment(plan: Plan) -> str:
    return (
        f"{described(*PACKAGES)} {plan.concurrency} requests at once, n={plan.n}, {plan.size:,} bytes an image, peers "
        f"write in {'the loop' if plan.in_loop else 'threads'}, median of {plan.rounds}."
    )


def _file_for(options: argparse.Namespace) -> Path:
    kind = "memory" if options.memory else "throughput"
    return RESULTS / (f"quick-{kind}.json" if options.quick else f"{kind}.json")


def _keep(file: Path, plan: Plan, results: Results, page: list[str]) -> Path:
    kept = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": page[0],
        # Where the images went for a while is this machine's business.
        "plan": attrs.asdict(plan, filter=lambda field, _: field.name != "folder"),
        **attrs.asdict(results),
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text("\n\n".join(filter(None, page)) + "\n", encoding="utf-8")
    return file


def _remove_if_empty(folder: Path | None) -> None:
    if folder is not None and folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()


if __name__ == "__main__":
    sys.exit(main())
