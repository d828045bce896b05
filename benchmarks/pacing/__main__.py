"""``python -m benchmarks.pacing``: runs the rounds, prints the table, and keeps the figures."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime
from pathlib import Path

import attrs

from benchmarks.arguments import natural
from benchmarks.machine import described
from benchmarks.pacing.rounds import Plan, Results, play
from benchmarks.pacing.rows import EXTRA, LATENCY, ROWS, SLOTS, Row, find
from benchmarks.pacing.table import rows, verdict
from benchmarks.processes import HOME
from benchmarks.table import as_markdown, as_text

RESULTS = HOME / "benchmarks" / "results"


def main() -> int:
    """Run the command line; 0 if every contender that is installed gave its figures, 1 otherwise."""
    options = _options()
    plan = _plan(options)
    where = _environment(plan)
    print(where, flush=True)
    results = play(plan, tell=lambda line: print(line, file=sys.stderr, flush=True))
    table = rows(plan.rows, results)
    conclusion = verdict(plan.rows, results)
    # Kept first: a closed pipe must not cost minutes of figures.
    kept = _keep(_file_for(options), plan, results, [where, as_markdown(table), conclusion])
    print("", as_text(table), "", conclusion, sep="\n")
    print(f"\nkept in {kept} and {kept.with_suffix('.md').name}")
    return int(any(not reason.startswith("not installed") for reason in results.absent.values()))


def _options() -> argparse.Namespace:
    names = ", ".join(row.name for row in ROWS + EXTRA)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pacing", description=__doc__)
    parser.add_argument("--only", type=_rows, help=f"comma-separated, of {names}")
    parser.add_argument("--ours", action="store_true", help="no contender but ours")
    parser.add_argument("--all", action="store_true", help="further ways of counting as well")
    parser.add_argument("--quick", action="store_true", help="a fifth of the jobs, to see that all works")
    parser.add_argument("--rounds", type=natural, default=1, help="runs of each (%(default)s)")
    parser.add_argument("--limit", type=float, default=150.0, help="seconds that one run may take (%(default)s)")
    parser.add_argument("--results", type=Path, help="the JSON file to keep the figures in")
    return parser.parse_args()


def _rows(text: str) -> tuple[Row, ...]:
    try:
        return tuple(find(name) for name in dict.fromkeys(text.split(",")))
    except LookupError as error:
        raise argparse.ArgumentTypeError(f"there is no row {error}") from None


def _plan(options: argparse.Namespace) -> Plan:
    chosen = options.only or (ROWS + EXTRA if options.all else ROWS)
    if options.ours:
        chosen = tuple(
            attrs.evolve(row, contenders=tuple(name for name in row.contenders if name.startswith("ours")))
            for row in chosen
        )
    if options.quick:
        chosen = tuple(row.quick() for row in chosen)
    return Plan(rows=chosen, rounds=options.rounds, quick=options.quick, limit=options.limit)


def _environment(plan: Plan) -> str:
    return (
        f"{described('imagen-async', 'openai')} {plan.rows[0].jobs} jobs, {SLOTS} slots, {LATENCY:g} s of work on a "
        f"request ± 20 %, median of {plan.rounds}."
    )


def _file_for(options: argparse.Namespace) -> Path:
    if options.results is not None:
        return Path(options.results)
    # A partial table must not replace the complete one.
    part = "quick-" if options.quick else "part-" if options.only or options.ours else ""
    return RESULTS / f"{part}pacing.json"


def _keep(file: Path, plan: Plan, results: Results, page: list[str]) -> Path:
    kept = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "environment": page[0],
        "jobs": plan.rows[0].jobs,
        "rounds": plan.rounds,
        "runs": [
            {"row": row, "contender": name, **attrs.asdict(run.played), **attrs.asdict(run.counted)}
            for (row, name), runs in results.runs.items()
            for run in runs
        ],
        "absent": [{"row": row, "contender": name, "reason": why} for (row, name), why in results.absent.items()],
    }
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text("\n\n".join(filter(None, page)) + "\n", encoding="utf-8")
    return file


if __name__ == "__main__":
    sys.exit(main())
