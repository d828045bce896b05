"""``python -m benchmarks [part …]``: runs the rounds, prints tables and verdicts, and keeps them."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import attrs

from benchmarks import plots, report, startup
from benchmarks.arguments import natural
from benchmarks.contenders import NAMES
from benchmarks.machine import described
from benchmarks.picture import SMALLEST
from benchmarks.processes import HOME
from benchmarks.rounds import fresh_folder, play
from benchmarks.scenes import PARTS, Choices, compared

RESULTS = HOME / "benchmarks" / "results"
STARTUP, SCALE, FULL, PLOTS = "startup", "scale", "full", "plots"
PACKAGES = ("imagen-async", "aiohttp", "pybase64", "isal", "openai", "google-genai", "litellm")
say = partial(print, flush=True)
tell = partial(print, file=sys.stderr, flush=True)


def main() -> int:
    """Run the command line; 0 if every contender that is installed gave its figures, 1 otherwise."""
    options = _options()
    parts = (*PARTS, STARTUP, SCALE, PLOTS) if FULL in options.parts else options.parts
    with fresh_folder(options.folder) as folder:
        chosen = {field.name: getattr(options, field.name) for field in attrs.fields(Choices)}
        choices = Choices(**{**chosen, "folder": folder})
        return int(sum([_part(part, choices, options.results) for part in parts]) > 0)


def _part(part: str, choices: Choices, results: Path) -> bool:
    if part == PLOTS:
        return not choices.quick and _draw()
    return (_scale if part == SCALE else _play)(part, choices, results)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parts = (*PARTS, STARTUP, SCALE, FULL, PLOTS)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(parts)} (throughput)")
    parser.add_argument("--contenders", type=_names, help=f"comma-separated, of {', '.join(NAMES)}")
    parser.add_argument("--rounds", type=natural, help="runs of each contender, alternating (5, some parts 3)")
    parser.add_argument("--images", type=natural, help="images a run (some two seconds of each contender)")
    parser.add_argument("--size", type=natural, help="bytes of an image (1500000)")
    parser.add_argument("--concurrency", type=natural, help="requests in flight (32; memory: 300 and more)")
    parser.add_argument("--n", type=natural, help="images a request (1; memory: 4)")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds before each response (%(default)s)")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds that one run may take (%(default)s)")
    parser.add_argument("--folder", type=Path, default=HOME / "bench-out", help="where the images go for a while")
    parser.add_argument("--results", type=Path, default=RESULTS, help="the folder to keep the figures in")
    parser.add_argument("--against", type=_checkout, help="another checkout, to compare ours of two versions")
    parser.add_argument("--quick", action="store_true", help="one short round, to see that all works")
    options = parser.parse_args()
    options.parts = options.parts or ["throughput"]
    if unknown := [part for part in options.parts if part not in parts]:
        parser.error(f"{', '.join(unknown)}: not of {', '.join(parts)}")
    if options.size is not None and options.size < SMALLEST:
        parser.error(f"--size must be at least {SMALLEST}")
    return options


def _names(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(text.split(",")))
    if unknown := [name for name in names if name not in NAMES]:
        raise argparse.ArgumentTypeError(f"{', '.join(unknown)}: not of {', '.join(NAMES)}")
    return names


def _checkout(text: str) -> Path:
    folder = Path(text).resolve()
    if not (folder / "imagen_async").is_dir():
        raise argparse.ArgumentTypeError(f"{text} is not a checkout: it has no folder imagen_async")
    return folder


def _play(part: str, choices: Choices, folder: Path) -> bool:
    """Run a part; return whether an installed contender gave no figures."""
    machine = described(*PACKAGES)
    say(f"== {part}\n{machine}")
    file = folder / f"{'quick-' if choices.quick else ''}{'against-' if choices.against else ''}{part}.json"
    sections: list[report.Section] = []
    failed = False
    if part == STARTUP:
        sections.append(report.of_starts(startup.play(3 if choices.quick else choices.rounds, tell=tell)))
        _keep(file, machine, sections)
    else:
        scenes = PARTS[part](choices)
        for scene in scenes if choices.against is None else map(compared, scenes):
            tell(f"{scene.title}: {scene.conditions}")
            results = play(scene.plan, tell=tell)
            failed |= any(not reason.startswith("not installed") for reason in results.absent.values())
            sections.append(report.of_scene(scene, results))
            _keep(file, machine, sections)  # after each scene: nothing that comes must cost minutes of figures
    for section in sections:
        say(report.text(section))
    say(f"\nkept in {file} and {file.with_suffix('.md').name}")
    return failed


def _scale(part: str, choices: Choices, folder: Path) -> bool:
    """Run one long batch, which has a command of its own; return whether it failed."""
    say(f"== {part}")
    words = ["--rows", "2000"] if choices.quick else []
    file = folder / f"{'quick-' if choices.quick else ''}{part}.json"
    command = [sys.executable, "-m", "benchmarks.scale", *words, "--results", str(file)]
    return subprocess.run(command, check=False, cwd=HOME).returncode != 0


def _keep(file: Path, machine: str, sections: list[report.Section]) -> None:
    kept = report.kept(datetime.now(UTC).isoformat(timespec="seconds"), machine, sections)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    file.with_suffix(".md").write_text(report.markdown(machine, sections), encoding="utf-8")


def _draw() -> bool:
    """Draw the kept figures; return whether there are none."""
    found = plots.charts(*(plots.read(RESULTS / f"{name}.json") for name in ("growth", "rows", "scale")))
    for chart in found:
        say(f"drawn: {plots.draw(chart)}")
    return not found


if __name__ == "__main__":
    sys.exit(main())
