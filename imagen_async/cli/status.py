"""``imagen-async status``: the state of a folder's jobs by its journal, during a run or after it; changes nothing.

The command line's parser reads the annotations at run time.
"""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imagen_async.cli.console import write_json, write_result
from imagen_async.cli.exit_codes import Exit
from imagen_async.cli.formatting import cost_in_doubt, count, size
from imagen_async.exceptions import ConfigurationError, printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from imagen_async.batch import Damage, Verification
    from imagen_async.batch.journal import ListedDoubt, Totals

__all__ = ["status"]

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
    """Show the state of a folder's jobs, during a run or after it.

    Args:
        folder: The output folder of a run.
        verify: Read every image, compare it with the journal, and name those that are missing or altered.
        json: Print one JSON object; with --verify, one for each damaged image before it.
    """
    from imagen_async.batch.folder import INNER_NAME
    from imagen_async.batch.journal import folder_in_use, read_newest_doubts, read_status

    journal = folder / INNER_NAME
    if not journal.is_dir():
        raise ConfigurationError(f"{printable(str(folder))} is not the output folder of a run: it has no {INNER_NAME}")
    running = folder_in_use(journal)
    figures = _figures(read_status(journal), running=running)
    if not json:
        write_result(_text(figures, folder, read_newest_doubts(journal, running=running, limit=_SHOWN)))
    sound = not verify or _verify(folder, figures, as_json=json)
    if json:
        write_json(figures)
    return Exit.SUCCEEDED if sound else Exit.INCOMPLETE


def _verify(folder: Path, figures: dict[str, Any], *, as_json: bool) -> bool:
    """Print each damaged image as it is found, and return whether there is none."""
    from imagen_async.batch import Verification

    verification = Verification(folder)
    for number, damage in enumerate(verification, 1):
        if as_json:
            write_json(_damage_record(damage))
        elif number <= _DAMAGE_SHOWN:
            shown = f"{damage.problem}: {printable(damage.file_name, _LONGEST)}, {_job(damage)}: {damage.detail}"
            write_result(f"  {printable(shown, _LONGEST_LINE)}")
    damaged = sum(verification.damaged.values())
    counted = {str(problem): number for problem, number in verification.damaged.items()}
    figures["verified"] = {"images": verification.images, "bytes": verification.bytes, "damaged": damaged, **counted}
    if not as_json:
        write_result("\n".join(_verified(verification, damaged)))
    return not damaged


def _verified(verification: "Verification", damaged: int) -> list[str]:
    more = [f"  … and {damaged - _DAMAGE_SHOWN:,} more: --json names them all"] if damaged > _DAMAGE_SHOWN else []
    head = f"{count(verification.images, 'image')} verified, {size(verification.bytes)} read: "
    kinds = [f"{number:,} {problem}" for problem, number in verification.damaged.items() if number]
    lines = [*more, head + (", ".join(kinds) or "all as recorded")]
    if damaged:
        lines.append("run again with --redo-damaged to make missing and altered images anew; existing files stay")
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
        # Requests that a killed run left in flight are in doubt; the next run will record that.
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
        lines.append("run the same command again to resume the interrupted jobs")
    if figures["failed"] or figures["in_doubt"]:
        lines.append(f"failed or in doubt: see {shown}/errors.jsonl; run again with --retry-failed to retry them")
    return "\n".join(lines)


def _doubts(figures: dict[str, Any], newest: "Sequence[ListedDoubt]", shown: str) -> list[str]:
    if not figures["doubts"]:
        return []
    head = (
        f"{count(figures['doubts'], 'request')} may have been billed for nothing: "
        f"{count(figures['doubtful_images'], 'image')}, {cost_in_doubt(figures['doubtful_usd'])}"
    )
    lines = [head, *map(_doubt, newest)]
    if (left := figures["doubts"] - len(newest)) > 0:
        # Requests that a killed run left in flight are not in that file until the next run starts.
        lines.append(f"  … and {left:,} more: see {shown}/errors.jsonl, which a run updates when it starts and ends")
    return lines


def _doubt(listed: "ListedDoubt") -> str:
    doubt = listed.doubt
    request = "no request id" if doubt.request_id is None else f"request {printable(doubt.request_id, _LONGEST)}"
    when = _moment(doubt.at)
    return f"  {when}, {_job(listed)}, attempt {doubt.attempt}, {request}: {count(doubt.images, 'image')}"


def _moment(at: float) -> str:
    try:
        return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, ValueError, OSError):  # a damaged row, with which a run would refuse the journal
        return f"at {at}"
