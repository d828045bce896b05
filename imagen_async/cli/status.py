"""``imagen-async status``: what the journal of a folder says, while a run goes on or after it; changes nothing.

The command line's parser reads the annotations at run time.
"""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagen_async.cli.exit_codes import Exit
from imagen_async.cli.formatting import count, doubtful_cost, size
from imagen_async.cli.speech import give
from imagen_async.exceptions import ConfigurationError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagen_async.batch import Damage, Verification
    from imagen_async.batch.journal import ListedDoubt, Totals

__all__ = ["status"]

_JOURNAL = ".imagen"
_SHOWN = 5
_DAMAGE_SHOWN = 20
_LONGEST = 80
_LONGEST_LINE = 400


def status(
    folder: Path,
    /,
    *,
    verify: bool = False,
    json: bool = False,
) -> int:
    """Tell what has become of a folder's jobs, during a run or after it.

    Args:
        folder: The output folder of a run.
        verify: Read every image, compare it with the journal, and name those that are missing or altered.
        json: Print one JSON object; with --verify, one for each damaged image before it.
    """
    from imagen_async.batch.journal import folder_in_use, read_newest_doubts, read_status

    journal = folder / _JOURNAL
    if not journal.is_dir():
        raise ConfigurationError(f"{printable(str(folder))} is not the output folder of a run: it has no {_JOURNAL}")
    running = folder_in_use(journal)
    figures = _figures(read_status(journal), running=running)
    if not json:
        give(_text(figures, folder, read_newest_doubts(journal, running=running, limit=_SHOWN)))
    sound = not verify or _verify(folder, figures, as_json=json)
    if json:
        give(_line(figures))
    return Exit.SUCCEEDED if sound else Exit.INCOMPLETE


def _verify(folder: Path, figures: dict[str, Any], *, as_json: bool) -> bool:
    """Tell of damage as it is found, and say whether there is none."""
    from imagen_async.batch import Verification

    verification = Verification(folder)
    for number, damage in enumerate(verification, 1):
        if as_json:
            give(_line(_damage_record(damage)))
        elif number <= _DAMAGE_SHOWN:
            told = f"{damage.problem}: {printable(damage.file_name, _LONGEST)}, {_job(damage)}: {damage.detail}"
            give(f"  {printable(told, _LONGEST_LINE)}")
    damaged = sum(verification.damaged.values())
    counted = {str(problem): number for problem, number in verification.damaged.items()}
    figures["verified"] = {"images": verification.images, "bytes": verification.bytes, "damaged": damaged, **counted}
    if not as_json:
        give("\n".join(_verified(verification, damaged)))
    return not damaged


def _verified(verification: "Verification", damaged: int) -> list[str]:
    more = [f"  … and {damaged - _DAMAGE_SHOWN:,} more: --json names them all"] if damaged > _DAMAGE_SHOWN else []
    told = f"{count(verification.images, 'image')} verified, {size(verification.bytes)} read: "
    kinds = [f"{number:,} {problem}" for problem, number in verification.damaged.items() if number]
    lines = [*more, told + (", ".join(kinds) or "all as they were recorded")]
    if damaged:
        lines.append("the run's --redo-damaged makes missing and altered ones anew, and leaves the files as they are")
    return lines


def _damage_record(damage: "Damage") -> dict[str, Any]:
    return {
        "problem": damage.problem,
        "file_name": damage.file_name,
        "id": damage.id,
        "line": damage.line,
        "index": damage.index,
        "detail": damage.detail,
    }


def _job(named: "ListedDoubt | Damage") -> str:
    return f"job line {named.line}" if named.id is None else f"job {printable(named.id, _LONGEST)}"


def _figures(totals: "Totals", *, running: bool) -> dict[str, Any]:
    states = dict(totals.jobs)
    flying = states.pop("intent")
    doubts, images, usd = totals.doubts, totals.doubtful_images, totals.doubtful_usd
    if not running:
        # What a killed run left in flight is in doubt; the next run will write that down.
        states["interrupted"] += flying
        left = totals.unanswered
        doubts, images, usd = doubts + left.requests, images + left.images, usd + left.usd
    return {
        "running": running,
        "jobs": sum(totals.jobs.values()),
        **states,
        "in_flight": flying if running else 0,
        "images": totals.images,
        "bytes": totals.bytes,
        "attempts": totals.attempts,
        "doubts": doubts,
        "doubtful_images": images,
        "doubtful_usd": round(usd, 6),
    }


def _line(figures: dict[str, Any]) -> str:
    return json.dumps(figures)


def _text(figures: dict[str, Any], folder: Path, newest: "Sequence[ListedDoubt]") -> str:
    counted = ("succeeded", "partial", "filtered", "failed", "in_doubt", "interrupted", "in_flight")
    states = [f"{figures[name]:,} {name.replace('_', ' ')}" for name in counted if figures[name]]
    shown = printable(str(folder))
    lines = [
        "a run is using the folder" if figures["running"] else "no run is using the folder",
        f"{count(figures['jobs'], 'job')} begun: {', '.join(states) or 'none'}",
        f"{count(figures['images'], 'image')}, {size(figures['bytes'])}, {count(figures['attempts'], 'attempt')}",
        *_doubts(figures, newest, shown),
    ]
    if figures["interrupted"] and not figures["running"]:
        lines.append("interrupted jobs go on when the same command is run again")
    if figures["failed"] or figures["in_doubt"]:
        lines.append(f"failed and doubtful jobs: see {shown}/errors.jsonl; the run's --retry-failed tries them again")
    return "\n".join(lines)


def _doubts(figures: dict[str, Any], newest: "Sequence[ListedDoubt]", shown: str) -> list[str]:
    if not figures["doubts"]:
        return []
    told = (
        f"{count(figures['doubts'], 'request')} may have been billed for nothing: "
        f"{count(figures['doubtful_images'], 'image')}, {doubtful_cost(figures['doubtful_usd'])}"
    )
    lines = [told, *map(_doubt, newest)]
    if (left := figures["doubts"] - len(newest)) > 0:
        # What a killed run left in flight is not in that file before the next one begins.
        lines.append(f"  … and {left:,} more: see {shown}/errors.jsonl, which a run completes as it begins and ends")
    return lines


def _doubt(listed: "ListedDoubt") -> str:
    doubt = listed.doubt
    request = "no request id" if doubt.request_id is None else f"request {printable(doubt.request_id, _LONGEST)}"
    when = _moment(doubt.at)
    return f"  {when}, {_job(listed)}, attempt {doubt.attempt}, {request}: {count(doubt.images, 'image')}"


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # a damaged row; a run would refuse the journal
        return f"at {at}"
