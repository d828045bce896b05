"""``imagen-async status``: what the journal of a folder says, while a run goes on or after it; changes nothing.

The command line's parser reads the annotations at run time.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagen_async.cli.exits import Exit
from imagen_async.cli.figures import count, size
from imagen_async.cli.speech import give
from imagen_async.exceptions import ConfigurationError, printable

if TYPE_CHECKING:
    from imagen_async.journal import Totals

__all__ = ["status"]

_JOURNAL = ".imagen"


def status(
    folder: Path,
    /,
    *,
    json: bool = False,
) -> int:
    """Tell what has become of a folder's jobs, during a run or after it.

    Args:
        folder: The output folder of a run.
        json: Print one JSON object.
    """
    from imagen_async.journal import folder_in_use, read_status

    journal = folder / _JOURNAL
    if not journal.is_dir():
        raise ConfigurationError(f"{printable(str(folder))} is not the output folder of a run: it has no {_JOURNAL}")
    figures = _figures(read_status(journal), running=folder_in_use(journal))
    give(_line(figures) if json else _text(figures, folder))
    return Exit.SUCCEEDED


def _figures(totals: "Totals", *, running: bool) -> dict[str, Any]:
    states = dict(totals.jobs)
    flying = states.pop("intent")
    if not running:
        # What a killed run left in flight is in doubt; the next run will write that down.
        states["interrupted"] += flying
    return {
        "running": running,
        "jobs": sum(totals.jobs.values()),
        **states,
        "in_flight": flying if running else 0,
        "images": totals.images,
        "bytes": totals.bytes,
        "attempts": totals.attempts,
        "doubts": totals.doubts + (0 if running else flying),
    }


def _line(figures: dict[str, Any]) -> str:
    return json.dumps(figures)


def _text(figures: dict[str, Any], folder: Path) -> str:
    counted = ("succeeded", "partial", "filtered", "failed", "in_doubt", "interrupted", "in_flight")
    states = [f"{figures[name]:,} {name.replace('_', ' ')}" for name in counted if figures[name]]
    lines = [
        "a run is using the folder" if figures["running"] else "no run is using the folder",
        f"{count(figures['jobs'], 'job')} begun: {', '.join(states) or 'none'}",
        f"{count(figures['images'], 'image')}, {size(figures['bytes'])}, {count(figures['attempts'], 'attempt')}",
    ]
    shown = printable(str(folder))
    if figures["doubts"]:
        lines.append(
            f"{count(figures['doubts'], 'request')} may have been billed for nothing: see {shown}/errors.jsonl"
        )
    if figures["interrupted"] and not figures["running"]:
        lines.append("interrupted jobs go on when the same command is run again")
    if figures["failed"] or figures["in_doubt"]:
        lines.append(f"failed and doubtful jobs: see {shown}/errors.jsonl; the run's --retry-failed tries them again")
    return "\n".join(lines)
